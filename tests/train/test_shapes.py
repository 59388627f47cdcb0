"""From labels of shapes to a checkpoint, and from that to a decoder."""

import json
from pathlib import Path

import numpy as np
import plans
import pytest
import shape_traces
import tiny
import traces
from treewright import cli
from treewright.collect.measure.bench.policies import Job, planned_policy
from treewright.collect.measure.bench.settings import BenchConfig
from treewright.collect.measure.bench.shaped import shapes_report
from treewright.collect.trace import TraceFolder
from treewright.controller.checkpoint import Checkpoint, ShapesCheckpoint
from treewright.controller.errors import InputError
from treewright.controller.learned.shape_menu import SHAPED_VERIFIERS, answers_of, num_answers, scheme_of
from treewright.controller.plans.sampled_grids import fixed_plan, shaped_plans
from treewright.controller.policies.learned_shapes import learned_shapes
from treewright.controller.pricing.latency_cache import cache_path
from treewright.controller.trees.delayed import CHAINS, DelayedShape
from treewright.controller.trees.menu import CHAIN_MENU, DELAYED_MENU, SIDED_MENU
from treewright.controller.trees.sided import SidedTrunk
from treewright.runtime.auto_scheme import with_scheme
from treewright.runtime.build import build_decoder
from treewright.runtime.pair_config import reference_folder
from treewright.runtime.sampling import Sampling
from treewright.runtime.speculation import SpeculationConfig
from treewright.train.shapes.evaluate import SPEED_UPS, expectations
from treewright.train.shapes.fit import fit_shapes
from treewright.train.shapes.labels import ShapeLabels
from treewright.train.shapes.policies import PricedText, learned_choices, policy_ms, priced, static_ms, tuned_speed_up
from treewright.train.shapes.programme import chosen_stops, cut_choices, times_to_finish
from treewright.train.shapes.rules import is_undelayed, last_step_ms, mean_accepted, rules, running_ms
from treewright.train.shapes.settings import ShapeFitConfig
from treewright.train.shapes.texts import answers, read_texts, verifiers_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shape_traces.train(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def checkpoint(folder):
    return ShapesCheckpoint.read(folder)


@pytest.fixture(scope="module")
def texts(folder):
    return read_texts([TraceFolder.open(folder.parent / "traces")])


def test_the_checkpoint_says_which_verifiers_it_is_for(checkpoint):
    assert checkpoint.config.verifiers == SHAPED_VERIFIERS
    assert {row["verifier"] for row in checkpoint.metrics["programme"]} == set(SHAPED_VERIFIERS) - {"traversal"}
    (row,) = checkpoint.metrics["traversal"]
    assert row["roots"] > 0 and set(row["x_plain"]) == {"fixed", "fixed, undelayed", "learned"}
    assert checkpoint.speed_ups["traversal"] == checkpoint.speed_ups["spectr"]
    assert set(checkpoint.speed_ups["specinfer"].values()) <= set(SPEED_UPS)


def test_answers_are_the_lengths_that_every_verifier_shares_or_has_of_its_own(texts):
    verifiers = verifiers_of(texts)
    wanted = answers(texts[0], verifiers)
    assert wanted.shape == (24, num_answers(verifiers)) == (24, 2 * 17 + 7 * 8 + 4 * 216)
    for verifier in verifiers:
        lengths = texts[0].labels.lengths(verifier)
        np.testing.assert_allclose(wanted[:, answers_of(verifier, verifiers)], lengths, rtol=1e-6)
    place = DELAYED_MENU.places[DelayedShape(2, 1, 3)]
    assert np.isfinite(texts[0].labels.lengths("specinfer")[:, place]).tolist() == [True] * 21 + [False] * 3
    assert np.isfinite(texts[0].labels.lengths("traversal")[:, place]).tolist() == [i == 0 for i in range(24)]


def test_without_drafted_trees_there_is_no_choice_for_traversal(tmp_path):
    without = ShapesCheckpoint.read(shape_traces.train(tmp_path, trees=0, max_epochs=1))
    assert without.config.verifiers == SHAPED_VERIFIERS[:-1]
    with pytest.raises(InputError, match=r"shapes for naive, .*, naive-tree, .*, got verifier 'traversal'; name one"):
        learned_shapes(without, "traversal", plans.TABLE)


def test_a_shape_of_every_step_is_one_static_tree(texts):
    """The static policies by the programme of choices, which pays the first level in any case."""
    expected = np.zeros((24, num_answers(SHAPED_VERIFIERS)))
    of = priced(texts[0], "specinfer", plans.TABLE, expected, SHAPED_VERIFIERS)
    one = DELAYED_MENU.places[DelayedShape(2, 1, 2)]
    of.lengths[:, one] = 100.0
    choices = learned_choices(of, 1.0)
    assert choices[0] == one
    same = of._replace(chosen_costs=of.costs)
    assert policy_ms(same, choices) == pytest.approx(static_ms(of)[one], rel=1e-12)
    assert static_ms(of)[0] == pytest.approx(of.plain_ms.sum(), rel=1e-12)


def test_rules_agree_where_they_are_alike(texts):
    """With lengths that leave no choice, the learned rules are the fixed one, and a trunk as long as before is no
    longer than what was accepted."""
    expected = np.zeros((24, num_answers(SHAPED_VERIFIERS)))
    of = priced(texts[0], "specinfer", plans.TABLE, expected, SHAPED_VERIFIERS)
    by_name, trees = rules([of], 1.0)
    assert is_undelayed(DELAYED_MENU)[DELAYED_MENU.places[trees["fixed, undelayed"]]]
    assert by_name["fixed"](of) == static_ms(of).min() <= by_name["fixed, undelayed"](of)
    of.lengths[:, DELAYED_MENU.places[trees["fixed"]]] = 1e6
    same = of._replace(chosen_costs=of.costs)
    for name in ("learned", "learned, E / T"):
        assert by_name[name](same) == pytest.approx(by_name["fixed"](of), rel=1e-12)
    chain = DelayedShape(1, 3, 0)
    accepted = mean_accepted([of], chain)
    places = cut_choices(np.full(24, DELAYED_MENU.places[chain]), DELAYED_MENU)
    steps = times_to_finish(chosen_stops(of.survival, places), np.ones(24))[0]
    assert accepted == pytest.approx(24 / steps - 1)


def test_a_running_theta_is_what_it_costs_in_many_decodings(texts):
    """The network leaves one tree only, so what runs changes nothing, and the mean of decodings is the programme."""
    expected = np.zeros((24, num_answers(SHAPED_VERIFIERS)))
    of = priced(texts[0], "block", plans.TABLE, expected, SHAPED_VERIFIERS)
    of.lengths[:, 2] = 1e6
    exact = policy_ms(of, learned_choices(of, 1.0))
    assert running_ms(of, 1.0) == pytest.approx(exact, rel=0.25)


def test_the_last_step_is_part_of_the_programmes_state(texts):
    """Chains under block verification on a text that accepts all or nothing: the process can be written down."""
    ratios = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    labels = ShapeLabels(ratios, {}, None, np.zeros((5, 216)))
    survival = labels.survival("block")
    costs = np.tile([float(shape.depth) + 1 for shape in CHAIN_MENU.shapes], (5, 1))
    of = PricedText(texts[0], CHAIN_MENU, survival, costs, costs, costs[:, 0], costs)
    # A chain of 1 first: accepts token 0, emits token 1. Then 2, refused at token 2. Then 1, accepts 3 and emits 4.
    assert last_step_ms(of, DelayedShape(1, 1, 0)) == pytest.approx(2.0 + 3.0 + 2.0)


def test_beside_a_trunk_the_last_step_sets_its_length_alone(texts):
    """No draw is accepted and every side is landed on: each step emits a side and one token more."""
    labels = ShapeLabels(np.zeros(6), {}, np.ones((6, 7)), np.zeros((6, 216)))
    costs = np.tile([float(shape.depth) + 1 for shape in SIDED_MENU.shapes], (6, 1))
    of = PricedText(texts[0], SIDED_MENU, labels.survival("hybrid-naive"), costs, costs, costs[:, 0], costs)
    assert last_step_ms(of, SidedTrunk(3, 3)) == pytest.approx(4.0 + 3.0 + 2.0)


def test_a_tuned_speed_up_is_the_best_of_its_grid(texts, checkpoint):
    generator = np.random.default_rng(0)
    expected = generator.uniform(0, 3, size=(24, num_answers(SHAPED_VERIFIERS)))
    of = [priced(texts[0], "block", plans.TABLE, expected, SHAPED_VERIFIERS)]
    times = {speed_up: policy_ms(of[0], learned_choices(of[0], speed_up)) for speed_up in SPEED_UPS}
    assert len(set(times.values())) > 1
    assert times[tuned_speed_up(of, SPEED_UPS)] == min(times.values())


def test_the_graph_answers_as_the_network_did_and_within_what_is_possible(checkpoint, texts):
    features = checkpoint.golden["features"]
    lengths = checkpoint.golden["accepted_lengths"]
    assert checkpoint.golden_miss < 1e-4 and len(features) == len(lengths)
    assert (lengths >= 0).all() and (lengths[:, : len(CHAINS)] <= np.arange(len(CHAINS))).all()


@pytest.mark.parametrize("verifier", SHAPED_VERIFIERS)
def test_every_declared_verifier_decodes(verifier, folder):
    pair = tiny.pair()
    cache_path(pair.latency_key).parent.mkdir(parents=True, exist_ok=True)
    cache_path(pair.latency_key).write_bytes((folder.parent / "table.json").read_bytes())
    config = SpeculationConfig(selector=folder, verifier=verifier, theta_scale=1e-3)  # time costs next to nothing
    streams, stats = build_decoder(pair, config).generate(tiny.requests(2, 0.8))
    assert [len(stream.token_ids) for stream in streams] == [24, 24]
    assert stats.num_accepted > 0


def test_auto_names_the_verifier_that_no_other_of_the_checkpoint_is_faster_than(folder):
    asked = SpeculationConfig(selector=folder, scheme="auto")
    assert with_scheme(asked) == SpeculationConfig(selector=folder, verifier="spectr")


def test_bench_runs_every_declared_verifier_under_a_name_of_its_own(checkpoint):
    found = shaped_plans(checkpoint, plans.TABLE)
    assert list(found) == [(f"{verifier}, learned shapes", scheme_of(verifier).name) for verifier in SHAPED_VERIFIERS]
    (plan,) = found["specinfer, learned shapes", "iid-paths"]
    policy = planned_policy(tiny.pair(), plan, plans.TABLE)
    run = policy.run(Job([1, 2, 3], 12, Sampling(0.8), "code"))
    assert len(run.tokens) == 12 and not policy.same_text
    with pytest.raises(InputError, match=r"measure.shapes has a round of its own"):
        BenchConfig(temperatures=(1.0,), shapes=Path("shapes"), concurrency=(2,))
    with pytest.raises(InputError, match="greedy text has none"):
        BenchConfig(shapes=Path("shapes"))


def test_bench_holds_learned_shapes_against_the_best_fixed_tree_of_each_verifier(checkpoint, capsys):
    walk = plans.grids()["EAGLE-2", "coupled"][0]
    jobs = [Job([1, 2, 3 + number], 6, Sampling(0.8, seed=number), "code") for number in range(2)]
    report = shapes_report(tiny.pair(), walk, checkpoint, plans.TABLE, jobs)
    measured = checkpoint.metrics["programme"] + checkpoint.metrics["traversal"]
    trees = {row.get("verifier", "traversal"): row["trees"]["fixed"] for row in measured}
    compared = [verifier for verifier in SHAPED_VERIFIERS if any(trees[verifier][1:])]
    names = [name for verifier in compared for name in (verifier, f"{verifier}, learned shapes")]
    assert [row["policy"] for row in report["policies"]] == ["plain", "EAGLE-2", *names]
    assert list(report["learned_over_fixed"]) == compared
    fixed = [row["settings"] for row in report["policies"][2::2]]
    assert fixed == ["K={} L1={} L2={}".format(*trees[verifier]) for verifier in compared]
    assert fixed_plan(checkpoint, "specinfer", 0.8, 0.9) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "chooses the shapes of sampled trees, not those of the walk; name the verifier"),
        (
            {"verifier": "rrsw"},
            "shapes for naive, .*, naive-tree, .*, traversal, got verifier 'rrsw'; name one of those",
        ),
        ({"verifier": "traversal", "guard": False}, "guard does nothing without the walk's speculation.selector"),
        ({"verifier": "traversal", "scheme": "iid-paths"}, "scheme does nothing without"),
        ({"verifier": "traversal", "scheme": "auto"}, "auto has nothing to choose: .*; leave speculation.scheme out"),
        ({"scheme": "auto", "guard": False}, "guard does nothing without the walk's speculation.selector"),
    ],
    ids=str,
)
def test_what_the_checkpoint_is_not_for_is_refused_in_a_sentence(settings, message, folder):
    pair = tiny.pair()
    cache_path(pair.latency_key).parent.mkdir(parents=True, exist_ok=True)
    cache_path(pair.latency_key).write_bytes((folder.parent / "table.json").read_bytes())
    with pytest.raises(InputError, match=message):
        build_decoder(pair, SpeculationConfig(selector=folder, **settings))


def test_a_selector_of_the_walk_is_refused_for_other_verifiers():
    shipped = reference_folder() / "selector"
    with pytest.raises(InputError, match=r"it chooses trees for the walk, .* train one with `treewright train-shapes`"):
        ShapesCheckpoint.read(shipped)
    assert Checkpoint.read(shipped).config.scheme == "coupled"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.onnx", lambda content: content[:-1], "model.onnx does not match its SHA-256"),
        ("config.json", lambda content: content.replace(b'"naive"', b'"walk"'), "does not match its own SHA-256"),
    ],
)
def test_a_damaged_folder_is_refused(name, damage, message, checkpoint, tmp_path):
    checkpoint.save_pretrained(tmp_path / "copy")
    file = tmp_path / "copy" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=message):
        ShapesCheckpoint.read(tmp_path / "copy")


def test_traces_without_labels_are_refused(tmp_path, capsys):
    plain = traces.write(tmp_path / "plain", count=1, max_tokens=4)
    table = shape_traces.table(tmp_path)
    arguments = ["--traces", f"[{plain.path}]", "--out", str(tmp_path / "out"), "--latency", str(table)]
    assert cli.main(["train-shapes", *arguments]) == 2
    assert "hold no labels of shapes; collect, or relabel them, with --shapes.labels true" in capsys.readouterr().err


def test_the_folder_is_inspected_and_verified_like_any_other(folder, capsys):
    assert cli.main(["checkpoint", "inspect", "--folder", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verifiers"] == list(SHAPED_VERIFIERS)
    assert cli.main(["checkpoint", "verify", "--folder", str(folder)]) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 0),
        ("learning_rate", 0.0),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("patience", 0),
        ("validation_share", 0.0),
        ("test_share", 1.1),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"fit.{field}"):
        ShapeFitConfig(**{field: value})


def test_a_fit_learns_the_mean_lengths(folder, texts):
    """Better than no network: its error on texts it was fitted to is below their spread."""
    verifiers = verifiers_of(texts)
    model, epochs = fit_shapes(texts, texts, verifiers, ShapeFitConfig(max_epochs=30, batch_size=16), folder.parent)
    known = np.concatenate([answers(text, verifiers) for text in texts])
    errors = np.concatenate([expectations(model, text) for text in texts]) - known
    assert epochs > 5
    assert np.nanmean(errors**2) < 0.85 * np.nanmean((known - np.nanmean(known, axis=0)) ** 2)
