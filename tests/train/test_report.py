"""The report: its numbers are those of a direct replay, and its page stands alone."""

import json
from html.parser import HTMLParser

import checkpoints
import numpy as np
import pytest
import traces
from treewright.controller.checkpoint import Checkpoint, SelectorConfig
from treewright.controller.plans.grids import policy_grids
from treewright.controller.plans.tuned import TunedSettings
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.train.replay.oracle import oracle_ms
from treewright.train.replay.recording import read_recordings
from treewright.train.replay.replay import ReplayStats, replay
from treewright.train.replay.study import essentials, study
from treewright.train.replay.tuning import RANKED_SCHEMES, gain
from treewright.train.report.document import report_page
from treewright.train.report.machines import machine_regimes
from treewright.train.report.steps import watch

TEMPERATURES = (0.8, 0.8, 0.8, 0.0)
TABLE = LatencyTable(
    {}, (1,), (64,), ((1.0,),), (1, 4), (((1.0, 1.5),),), (0, 1, 8, 16), (((10.0, 10.2, 11.0, 13.0),),)
)
CURVES = {
    head: [{"name": "depth 1", "rows": 3, "mean_predicted": 0.5, "observed": 0.4, "ece": 0.1, "points": [[0.5, 0.4]]}]
    for head in ("accept", "coverage")
}
# Elements without an end tag.
VOID = {"meta", "br", "link", "img"}


@pytest.fixture(scope="module")
def checkpoint():
    limits = TreeLimits(max_depth=4, width=3, frontier=3, budget=12)
    config = SelectorConfig("tiny", "coupled", "0" * 64, limits, {"made by": "a test"})
    return Checkpoint(config, checkpoints.files(), {}, {}, 0.0, checkpoints.BASELINES, {}, card="")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = traces.write_enveloped(tmp_path_factory.mktemp("runs") / "traces", TEMPERATURES)
    return read_recordings(folder)


def plans(checkpoint, scheme, temperature):
    """The first settings of every family."""
    grids = policy_grids(checkpoint, TABLE, [RANKED_SCHEMES[scheme]], temperature)
    return {family: grid[0] for (family, _), grid in grids.items()}


@pytest.fixture(scope="module")
def tuned(checkpoint):
    """As if the first settings of every grid were the best."""

    def first(scheme, temperature):
        return {name: [plan.settings] for name, plan in plans(checkpoint, scheme, temperature).items()}

    warm = {scheme: {0.8: first(scheme, 0.8)} for scheme in ("coupled", "fixed")}
    return TunedSettings({**warm, "coupled": {**warm["coupled"], 0.0: first("coupled", 0.0)}})


@pytest.fixture(scope="module")
def numbers(checkpoint, recordings, tuned):
    return study(checkpoint, TABLE, recordings, tuned)


def at(texts, temperature):
    return [text for text in texts if round(text.temperature, 3) == temperature]


def test_every_policy_has_the_sums_of_a_direct_replay(numbers, checkpoint, recordings):
    (warm,) = (row for row in numbers["temperatures"] if row["temperature"] == 0.8)
    told = {row["policy"]: row for row in warm["policies"]}
    for scheme in RANKED_SCHEMES:
        texts = at(recordings[scheme], 0.8)
        for family, plan in plans(checkpoint, scheme, 0.8).items():
            total = ReplayStats.merged(replay(texts, plan.build(), TABLE))
            row = told.pop(f"{family} ({scheme})")
            assert row["speed_up"][0] == pytest.approx(total.speed_up)
            assert row["block_efficiency"] == total.block_efficiency
            assert row["nodes_per_step"] == total.num_kept / total.num_steps
    assert not told


def test_the_gap_to_the_oracle_and_the_gain_are_those_of_the_sums(numbers, checkpoint, recordings):
    for row in numbers["temperatures"]:
        family, scheme = row["best_baseline"].removesuffix(")").rsplit(" (", 1)
        texts = at(recordings["coupled"], row["temperature"])
        ours = replay(texts, plans(checkpoint, "coupled", row["temperature"])["learned"].build(), TABLE)
        best_plan = plans(checkpoint, scheme, row["temperature"])[family]
        best = replay(at(recordings[scheme], row["temperature"]), best_plan.build(), TABLE)
        assert row["gain"] == list(gain(ours, best))
        learned_ms, best_ms = (ReplayStats.merged(runs).priced_ms for runs in (ours, best))
        ideal_ms = sum(oracle_ms(text, TABLE) for text in texts)
        assert row["gap_closed"] == pytest.approx((best_ms - learned_ms) / (best_ms - ideal_ms))


def test_groups_of_tokens_add_up_to_all_of_them(numbers):
    for row in numbers["temperatures"]:
        for name in ("by_domain", "by_entropy", "by_levels"):
            assert sum(group["tokens"] for group in row[name]) == row["num_tokens"]
    assert [group["group"] for group in numbers["temperatures"][1]["by_domain"]] == ["domain 0", "domain 1"]


def test_a_confident_policy_expects_the_path_probabilities_of_its_nodes(checkpoint, recordings):
    texts, plan = at(recordings["coupled"], 0.8), plans(checkpoint, "coupled", 0.8)["EAGLE-2"]
    seen = []
    replay(texts, plan.build(), TABLE, seen.append)
    expected = [np.exp(trace.kept.path_noisy_log_probs[0, 1:].astype(float)).sum() for trace in seen]
    run = watch(plan, texts, TABLE)
    steps = [step for steps in run.steps for step in steps]
    np.testing.assert_allclose([step.expected for step in steps], expected, rtol=1e-6)  # float32 path sums
    assert [step.num_accepted for step in steps] == [trace.accepted_length for trace in seen]


def test_steps_priced_anew_cost_what_a_replay_at_those_prices_costs(checkpoint, recordings):
    texts, plan = at(recordings["fixed"], 0.8), plans(checkpoint, "fixed", 0.8)["static"]
    run = watch(plan, texts, TABLE)
    for _, prices in machine_regimes(TABLE):
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
    steep = next(prices for regime, prices in machine_regimes(TABLE) if regime["per_node"] == 0.1)
    assert steep.step_ms([1, 3], 20, batch=1, context=7) == pytest.approx(10.0 * (1 + 2 * 0.1 + 20 * 0.1))


def test_a_larger_budget_never_keeps_fewer_nodes(numbers, recordings):
    envelopes = [envelope for text in at(recordings["coupled"], 0.8) for envelope in text.envelopes.values()]
    largest = max(len(envelope.tokens) - 1 for envelope in envelopes)
    assert 64 < largest < 128
    for score in ("learned", "confidence", "rank"):
        rows = [row for row in numbers["budgets"] if (row["score"], row["temperature"]) == (score, 0.8)]
        kept = [row["nodes_per_step"] for row in rows]
        assert [row["budget"] for row in rows] == [8, 16, 32, 64, largest]
        assert all(row["nodes_per_step"] <= row["budget"] for row in rows)
        assert kept[0] < kept[-1]


def test_the_numbers_are_json_and_a_checkpoint_keeps_a_few(numbers):
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert [row["temperature"] for row in essentials(numbers)] == [0.0, 0.8]
    for name in ("correlation", "correlation_attainable", "block_slope"):
        assert "learned (coupled)" in essentials(numbers)[1][name]


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


def test_the_page_is_one_whole_file_that_names_every_policy(numbers):
    page = report_page({"Pair": "<tiny>"}, CURVES, numbers)
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>")
    assert outline.open == []
    assert "<tiny>" in outline.text
    for row in numbers["temperatures"]:
        for policy in row["policies"]:
            assert policy["policy"] in outline.text
    assert outline.tags.count("svg") == 10
    assert page.count('role="img"') == 10


def test_the_page_asks_for_nothing_from_outside(numbers):
    page = report_page({}, CURVES, numbers)
    assert all(link.startswith("#") for link in Outline(page).links)
    assert "http" not in page
    assert not {"script", "link", "img", "iframe"} & set(Outline(page).tags)


def test_ids_are_unique_in_the_page(numbers):
    page = report_page({}, CURVES, numbers)
    ids = [part.split('"', 1)[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_without_envelopes_the_page_holds_the_calibration_alone():
    outline = Outline(report_page({}, CURVES, None))
    assert outline.tags.count("svg") == 2
    assert any("no envelopes" in text for text in outline.text)
