"""The report: its numbers are those of a direct replay, and its page needs no other file."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import checkpoints
import numpy as np
import plans as toy_plans
import pytest
import traces
from plans import policy_grids
from treewright.controller.checkpoint import Baselines, SelectorBundle, SelectorConfig
from treewright.controller.contract import RANKED_SCHEMES
from treewright.controller.plans.setting import Setting
from treewright.controller.plans.tuned import TunedSettings
from treewright.controller.policies.opt_tree import opt_tree
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.train.evaluate.reliability import Curve, Curves
from treewright.train.fit.fitted import with_baselines
from treewright.train.replay.deltas import DELTAS, decay_and_trust, delta_rows, implied_delta, next_level_ms
from treewright.train.replay.machines import REGIMES
from treewright.train.replay.oracle import oracle_ms
from treewright.train.replay.recording import read_recordings
from treewright.train.replay.replay import ReplayStats, replay
from treewright.train.replay.steps import Run, Step, replay_steps
from treewright.train.replay.study import study
from treewright.train.replay.tuning import gain
from treewright.train.report.document import report_page

TEMPERATURES = (0.8, 0.8, 0.8, 0.0)
TABLE = LatencyTable(
    {}, (1,), (64,), ((1.0,),), (1, 4), (((1.0, 1.5),),), (0, 1, 8, 16), (((10.0, 10.2, 11.0, 13.0),),)
)
# OPT-Tree of the first settings of its grid, within the limits of the selector below.
DEEP = TreeLimits(max_depth=4, width=3, frontier=3, budget=8)
CURVES = Curves(*[[Curve("depth 1", 3, 0.5, 0.4, 0.1, [(0.5, 0.4)])]] * 2)
# Elements without an end tag.
VOID = {"meta", "br", "link", "img"}


@pytest.fixture(scope="module")
def selector():
    """As if the first settings of every grid were the best."""
    limits = TreeLimits(max_depth=4, width=3, frontier=3, budget=12)
    config = SelectorConfig("tiny", "coupled", "0" * 64, limits, {"made by": "a test"})
    baselines = Baselines.parse(checkpoints.files()["baselines.json"])
    untuned = SelectorBundle(config, checkpoints.files()["model.onnx"], {}, {}, baselines, {})
    settings = [Setting("coupled", 0.8), Setting("fixed", 0.8), Setting("coupled", 0.0)]
    first = {
        setting: {name: [plan.settings] for name, plan in plans(untuned, setting.scheme, setting.temperature).items()}
        for setting in settings
    }
    return with_baselines(untuned, tuned=TunedSettings(first))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = traces.write_enveloped(tmp_path_factory.mktemp("runs") / "traces", TEMPERATURES)
    return read_recordings(folder)


def plans(selector, scheme, temperature):
    """The first settings of every family."""
    grids = policy_grids(selector, TABLE, [scheme], temperature)
    return {family: grid[0] for (family, _), grid in grids.items()}


@pytest.fixture(scope="module")
def studied(selector, recordings):
    return study(selector, TABLE, recordings)


def at(texts, temperature):
    return [text for text in texts if round(text.temperature, 3) == temperature]


def test_every_policy_has_the_sums_of_a_direct_replay(studied, selector, recordings):
    (warm,) = (row for row in studied.temperatures if row.temperature == 0.8)
    found = {row.policy: row for row in warm.policies}
    for scheme in RANKED_SCHEMES:
        texts = at(recordings[scheme], 0.8)
        for family, plan in plans(selector, scheme, 0.8).items():
            total = ReplayStats.merged(replay(texts, plan.build(), TABLE))
            row = found.pop(f"{family} ({scheme})")
            assert row.speed_up.value == pytest.approx(total.speed_up)
            assert row.total.block_efficiency == total.block_efficiency
            assert row.total.nodes_per_step == total.num_kept / total.num_steps
    assert not found


def test_the_gap_to_the_oracle_and_the_gain_are_those_of_the_sums(studied, selector, recordings):
    for row in studied.temperatures:
        family, scheme = row.best_baseline.removesuffix(")").rsplit(" (", 1)
        texts = at(recordings["coupled"], row.temperature)
        ours = replay(texts, plans(selector, "coupled", row.temperature)["learned"].build(), TABLE)
        best_plan = plans(selector, scheme, row.temperature)[family]
        best = replay(at(recordings[scheme], row.temperature), best_plan.build(), TABLE)
        assert row.gain == gain(ours, best)
        learned_ms, best_ms = (ReplayStats.merged(runs).priced_ms for runs in (ours, best))
        ideal_ms = sum(oracle_ms(text, TABLE) for text in texts)
        assert row.gap_closed == pytest.approx((best_ms - learned_ms) / (best_ms - ideal_ms))


def test_a_learned_policy_that_is_slower_than_another_is_named_in_a_warning(selector, recordings, caplog):
    idle = {"learned": [{"theta_scale": 100.0}]}  # drafts at hardly any step
    settings = selector.tuned.ranked
    slower = TunedSettings({setting: families | idle for setting, families in settings.items()})
    for each in study(with_baselines(selector, tuned=slower), TABLE, recordings).temperatures:
        is_named = f"T = {each.temperature:g}: over {each.num_texts} held-out texts the learned policy" in caplog.text
        assert is_named == (each.num_texts > 1)
        assert each.gain.high < 1
    assert "of EAGLE-2 (coupled) by replay; collect more texts" in caplog.text


def test_groups_of_tokens_add_up_to_all_of_them(studied):
    for row in studied.temperatures:
        for name in ("by_domain", "by_entropy", "by_levels"):
            assert sum(group.tokens for group in getattr(row, name)) == row.num_tokens
    assert [group.group for group in studied.temperatures[1].by_domain] == ["domain 0", "domain 1"]


def test_a_confident_policy_expects_the_path_probabilities_of_its_nodes(selector, recordings):
    texts, plan = at(recordings["coupled"], 0.8), plans(selector, "coupled", 0.8)["EAGLE-2"]
    seen = []
    replay(texts, plan.build(), TABLE, seen.append)
    kept = [trace.drafted.subtree(trace.kept) for trace in seen]
    expected = [np.exp(tree.path_noisy_log_probs[0, 1:].astype(float)).sum() for tree in kept]
    run = replay_steps(plan, texts, TABLE)
    steps = [step for steps in run.steps for step in steps]
    lengths = np.array([step.expected for step in steps], dtype=np.float64)
    np.testing.assert_allclose(lengths, expected, rtol=1e-6)  # float32 path sums
    assert [step.num_accepted for step in steps] == [trace.num_accepted for trace in seen]


def test_steps_priced_anew_cost_what_a_replay_at_those_prices_costs(selector, recordings):
    texts, plan = at(recordings["fixed"], 0.8), plans(selector, "fixed", 0.8)["static"]
    run = replay_steps(plan, texts, TABLE)
    for prices in (regime.table(TABLE) for regime in REGIMES):
        np.testing.assert_allclose(run.text_ms(prices), [s.priced_ms for s in replay(texts, plan.build(), prices)])
    assert run.token_ms(TABLE).sum() == pytest.approx(run.total.priced_ms)


class Contrary(ConfidenceScorer):
    """Prefers what the drafter likes least, which no envelope expands."""

    def score(self, tree, context, before=None):
        accept = np.where(tree.depths > 0, -1.0 / (1.0 - tree.noisy_log_probs), 0.0)
        return super().score(tree, context)._replace(accept=accept)


def test_drafting_ends_where_a_policy_asks_only_beyond_the_envelope(recordings):
    policy = Selector(Contrary(), TreeLimits(max_depth=4, width=3, frontier=1, budget=12))
    total = ReplayStats.merged(replay(at(recordings["fixed"], 0.8), policy, TABLE))
    assert total.num_outside > 0
    assert total.num_levels <= 4 * total.num_steps


def test_the_imagined_machines_charge_levels_and_nodes_in_plain_steps():
    steep = next(regime for regime in REGIMES if regime.per_node == 0.1).table(TABLE)
    assert steep.step_ms([1, 3], 20, batch=1, context=7) == pytest.approx(10.0 * (1 + 2 * 0.1 + 20 * 0.1))


def test_a_larger_budget_never_keeps_fewer_nodes(studied, recordings):
    envelopes = [envelope for text in at(recordings["coupled"], 0.8) for envelope in text.envelopes.values()]
    largest = max(len(envelope.tokens) - 1 for envelope in envelopes)
    assert 64 < largest < 128
    for score in ("learned", "confidence", "rank"):
        rows = [row for row in studied.budgets if (row.score, row.temperature) == (score, 0.8)]
        kept = [row.nodes_per_step for row in rows]
        assert [row.budget for row in rows] == [8, 16, 32, 64, largest]
        assert all(row.nodes_per_step <= row.budget for row in rows)
        assert kept[0] < kept[-1]


def test_the_implied_delta_is_replayed_beside_the_grid(studied, recordings):
    assert {(row.policy, row.temperature) for row in studied.deltas} == {
        ("OPT-Tree (coupled)", 0.0),
        ("OPT-Tree (coupled)", 0.8),
        ("OPT-Tree (fixed)", 0.8),
    }
    for row in (row for row in studied.deltas if row.implied):
        texts = at(recordings[row.policy.removeprefix("OPT-Tree (").removesuffix(")")], row.temperature)
        total = ReplayStats.merged(replay(texts, opt_tree(DEEP, row.delta), TABLE))
        assert (row.block_efficiency, row.speed_up) == (total.block_efficiency, total.speed_up)
        assert row.over_implied == (1.0, 1.0, 1.0)


def run_of(*steps):
    """Of one text, given (widths, kept, accepted, masses)."""
    made = [Step(0, widths, kept, accepted, accepted + 1, masses) for widths, kept, accepted, masses in steps]
    return Run(toy_plans.toy(), [], [ReplayStats(num_tokens=sum(step.num_tokens for step in made))], [made])


def test_the_implied_delta_pays_for_the_next_level_and_its_nodes():
    """A third of what is expected is accepted, and a level adds half of what the one before it added."""
    unstopped = run_of(((1, 3), 8, 0, (1.0, 0.5)), ((1, 3), 8, 1, (1.0, 0.5)), ((1, 3), 8, 0, (0.0, 0.0)))
    assert decay_and_trust(unstopped) == pytest.approx((0.5, 1 / 3))
    tuned = run_of(((1,), 1, 2, ()), ((1, 3), 8, 0, ()), ((1, 3, 3, 3), 8, 0, ()), ((), 0, 0, ()))
    # Behind one node there is room for seven more, behind eight for none, and behind four levels there is no depth.
    price = (1.5 + 11.0 - 10.2 + 1.5) / 2
    assert next_level_ms(tuned, TABLE, DEEP) == pytest.approx(price)
    ms = (1.0 + 10.2) + (1.0 + 1.5 + 11.0) + (1.0 + 3 * 1.5 + 11.0) + 10.0
    assert implied_delta(tuned, unstopped, TABLE, DEEP) == pytest.approx(6 / ms * price / (0.5 / 3))


def test_where_no_level_follows_another_no_delta_is_implied():
    one_level = run_of(((1,), 3, 1, (0.9,)))
    assert implied_delta(one_level, one_level, TABLE, replace(DEEP, max_depth=1)) is None
    assert decay_and_trust(run_of(((1, 3), 8, 0, (0.5, 0.2)))) is None


def test_a_larger_delta_never_drafts_more_levels(studied):
    for policy in ("OPT-Tree (coupled)", "OPT-Tree (fixed)"):
        rows = [row for row in studied.deltas if (row.policy, row.temperature, row.implied) == (policy, 0.8, False)]
        levels = [row.levels_per_step for row in rows]
        assert [row.delta for row in rows] == list(DELTAS)
        assert levels[0] > levels[-1]
        assert all(row.budget == 8 for row in rows)


def test_trees_of_one_level_have_no_delta(selector, recordings):
    flat = replace(selector, config=replace(selector.config, limits=replace(DEEP, max_depth=1)))
    texts, plan = at(recordings["coupled"], 0.8), plans(flat, "coupled", 0.8)["OPT-Tree"]
    assert [*delta_rows(flat, TABLE, 0.8, replay_steps(plan, texts, TABLE))] == []


def test_a_checkpoint_keeps_a_summary_as_json(studied):
    summaries = [row.summary() for row in studied.temperatures]
    json.dumps(summaries, allow_nan=False)
    assert [summary["temperature"] for summary in summaries] == [0.0, 0.8]
    for name in ("correlation", "correlation_attainable", "block_slope"):
        assert "learned (coupled)" in summaries[1][name]


class Outline(HTMLParser):
    """Fails where a tag is closed that is not the open one; gathers text and what a browser would fetch."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.links, self.tags = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_whole_file_that_names_every_policy(studied):
    page = report_page({"Pair": "<tiny>"}, CURVES, studied)
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>")
    assert outline.open == []
    assert "<tiny>" in outline.text
    for row in studied.temperatures:
        for policy in row.policies:
            assert policy.policy in outline.text
    assert outline.tags.count("svg") == 10
    assert page.count('role="img"') == 10


def test_the_page_asks_for_nothing_from_outside(studied):
    page = report_page({}, CURVES, studied)
    assert all(link.startswith("#") for link in Outline(page).links)
    assert "http" not in page
    assert not {"script", "link", "img", "iframe"} & set(Outline(page).tags)


def test_ids_are_unique_in_the_page(studied):
    page = report_page({}, CURVES, studied)
    ids = [part.split('"', 1)[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_without_envelopes_the_page_holds_the_calibration_alone():
    outline = Outline(report_page({}, CURVES, None))
    assert outline.tags.count("svg") == 2
    assert any("no envelopes" in text for text in outline.text)
