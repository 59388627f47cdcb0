"""The guard bounds what speculation may lose, whatever step times it is given. The clock is simulated."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from trees import TableScorer, context, random_tree
from treewright.controller.policies.base import WholeTreeStep
from treewright.controller.policies.guard import Guard
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree

PLAIN_MS = 10.0
NOTHING = np.full((1, 0), -1)  # accepted
TABLE = LatencyTable(
    {"pair": "toy"}, (1, 4), (64,), ((1.0,),) * 2, (1,), (((1.0,),),) * 2, (0, 1), (((10.0, 10.5),),) * 2
)
# A row takes a millisecond.
LOADED = LatencyTable(
    {"pair": "toy"},
    (1, 64),
    (256,),
    ((1.0,),) * 2,
    (1,),
    (((1.0,),),) * 2,
    (0, 4),
    (((PLAIN_MS, PLAIN_MS + 4),), ((64.0, 320.0),)),
)
WINNING = {"block_efficiency": 2.4, "speculative_ms": 16.0}
LOSING = {"block_efficiency": 2.0, "speculative_ms": 30.0}


class Clockwork:
    """Calls a policy as the decode loop does; its clock and the block efficiencies are simulated."""

    def __init__(self, table: LatencyTable | None = TABLE, batch: int = 1, guarded: bool = True):
        selector = Selector(TableScorer([0.0]), TreeLimits(max_depth=1, width=1, frontier=1, budget=1))
        self.now = 0.0
        self.policy = Guard(selector, table, clock=lambda: self.now) if guarded else selector
        self.roots = DraftTree.from_roots(np.zeros(batch))
        self.generator = np.random.default_rng(1)
        self.plain_run = 0

    def run(
        self,
        num_tokens,
        block_efficiency,
        speculative_ms,
        plain_ms=PLAIN_MS,
        prompt_ms=0.0,
        catch_up_ms=0.0,
        hiccup_ms=0.0,
        temperature=1.0,
    ):
        """One text. Returns how much faster it was than plain decoding, and for each step whether it drafted."""
        batch = len(self.roots.tokens)
        tokens, ms, position, drafted = 0, 0.0, 100, []
        while tokens < num_tokens:
            state = context(batch, position, num_tokens + 10 - tokens, temperature)
            step = self.policy.begin(state)
            drafts = step.frontier(self.roots).shape[1] > 0
            assert step.keep(self.roots).tolist() == [[0]] * batch
            block, step_ms = 1, plain_ms
            if drafts:  # blocks of one token or of three, as often as makes the mean
                block = 3 if self.generator.random() < (block_efficiency - 1) / 2 else 1
                step_ms = speculative_ms + (catch_up_ms if self.plain_run > 1 else 0.0)
            self.plain_run = 0 if drafts else self.plain_run + 1
            extra_ms = prompt_ms * (not drafted) + hiccup_ms * (not drafts and len(drafted) % 5 == 0)
            self.now += (step_ms + extra_ms) / 1e3
            step.record(self.roots, [1] * drafts, np.tile(np.arange(1, block), (batch, 1)))
            tokens, ms, position = tokens + block, ms + step_ms, position + block
            drafted.append(drafts)
        return tokens * plain_ms / ms, np.array(drafted)


@pytest.mark.parametrize("table", [TABLE, None], ids=["table", "no table"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("block_efficiency", "speculative_ms"), [(1.0, 100.0), (1.2, 30.0), (2.0, 25.0), (2.0, 21.0)])
def test_a_losing_pair_costs_at_most_two_percent(block_efficiency, speculative_ms, batch, table):
    clockwork = Clockwork(table, batch)
    speed_up, drafted = clockwork.run(5000, block_efficiency, speculative_ms, catch_up_ms=40.0)
    assert speed_up > 0.98
    assert drafted.mean() < 0.5


@pytest.mark.parametrize(("speculative_ms", "steps"), [(25.0, 120), (40.0, 25)])
def test_a_losing_pair_is_switched_off_soon(speculative_ms, steps):
    _, drafted = Clockwork().run(400, 2.0, speculative_ms)
    assert not drafted[steps:].any()


@pytest.mark.parametrize("table", [TABLE, None], ids=["table", "no table"])
def test_a_winning_pair_stays_on_and_its_checks_cost_under_half_a_percent(table):
    guarded, drafted = Clockwork(table).run(10_000, **WINNING)
    free, _ = Clockwork(guarded=False).run(10_000, **WINNING)
    assert drafted.mean() > 0.99
    assert guarded > 0.995 * free


def test_probes_of_a_losing_pair_become_rarer_up_to_a_limit():
    _, drafted = Clockwork().run(12_000, **LOSING)
    waits = np.diff(np.nonzero(drafted[2:] & ~drafted[1:-1] & ~drafted[:-2])[0])  # one plain step is only a check
    assert waits[0] < waits[1] and max(waits) < 5 * min(waits)
    assert len(waits) > 4


def test_speculation_is_switched_on_when_it_begins_to_pay_and_off_when_it_ceases():
    clockwork = Clockwork()
    for _ in range(2):
        _, drafted = clockwork.run(4000, **LOSING)
        assert not drafted[-500:].all() and drafted.mean() < 0.1
        _, drafted = clockwork.run(10_000, **WINNING)
        assert drafted[-500:].mean() > 0.99


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_change_of_speed_for_both_sides_changes_nothing(factor):
    clockwork = Clockwork()
    clockwork.run(2000, **WINNING)
    block_efficiency, ms = WINNING.values()
    _, drafted = clockwork.run(2000, block_efficiency, ms * factor, plain_ms=PLAIN_MS * factor)
    assert drafted.mean() > 0.97


def test_a_table_that_does_not_fit_this_machine_is_corrected():
    block_efficiency, ms = WINNING.values()
    _, drafted = Clockwork().run(2000, block_efficiency, 3 * ms, plain_ms=3 * PLAIN_MS)
    assert drafted.mean() > 0.95


def test_slow_outliers_of_plain_steps_do_not_favour_speculation():
    _, drafted = Clockwork().run(5000, **LOSING, hiccup_ms=30 * PLAIN_MS)
    assert drafted.mean() < 0.05


def test_after_speculation_has_won_the_guard_waits_as_long_as_at_first():
    clockwork = Clockwork()
    waits = []
    for _ in range(2):
        _, drafted = clockwork.run(3000, **LOSING)
        off = int(np.nonzero(~drafted[1:] & ~drafted[:-1])[0][0])
        waits.append(int(np.nonzero(drafted[off:])[0][0]))
        clockwork.run(10_000, **WINNING)
    assert waits[1] < 1.5 * waits[0]


def test_the_drafters_catch_up_does_not_decide_a_probe():
    clockwork = Clockwork()
    clockwork.run(1000, **LOSING)
    _, drafted = clockwork.run(6000, **WINNING, catch_up_ms=300.0)  # 30 tokens' time, and a probe may lose 8
    assert drafted[-1000:].mean() > 0.99


def test_reading_the_prompt_counts_for_neither_side():
    clockwork = Clockwork()
    steps = np.concatenate([clockwork.run(20, **WINNING, prompt_ms=5000.0)[1] for _ in range(100)])
    assert steps.mean() > 0.98
    clockwork = Clockwork()
    clockwork.run(400, **LOSING)
    steps = np.concatenate([clockwork.run(20, **LOSING, prompt_ms=5000.0)[1] for _ in range(100)])
    assert steps.mean() < 0.05


def test_temperatures_are_judged_apart():
    clockwork = Clockwork()
    requests = [(WINNING, 0.0), (LOSING, 1.0)] * 20
    *_, cold, warm = (clockwork.run(100, **pace, temperature=temperature)[1] for pace, temperature in requests)
    assert cold.mean() > 0.9 and not warm.any()


def test_a_guard_has_the_information_and_limits_of_its_policy():
    selector = Selector(TableScorer([0.0]), TreeLimits(budget=3))
    guard = Guard(selector)
    assert (guard.information, guard.limits) == (selector.information, selector.limits)


def test_a_plain_step_keeps_nothing_of_a_tree_that_was_drafted_elsewhere():
    tree = random_tree(np.random.default_rng(0), levels=2)
    guard = Guard(Selector(ConfidenceScorer(), TreeLimits(budget=3)), clock=lambda: 0.0)
    steps = [guard.begin(context(position=position)) for position in (9, 10)]
    steps[0].record(tree, [1], NOTHING)  # the first step of a request counts for neither side
    plain = guard.begin(context(position=10))  # without a price the next is plain
    assert [step.keep(tree).shape[1] for step in (steps[0], plain)] == [4, 1]


class Load:
    """Texts of `tokens` tokens that join as others end, one per slot; what reading costs is in proportion to `PROMPT`
    tokens. A step with a newcomer takes the target, and the drafter before its first draft, that much longer."""

    PROMPT = 40

    def __init__(self, batch, table=LOADED, tokens=16):
        selector = Selector(TableScorer([0.0]), TreeLimits(max_depth=1, width=1, frontier=1, budget=1))
        self.now, self.table = 0.0, table
        self.policy = Guard(selector, table, clock=lambda: self.now)
        self.roots = DraftTree.from_roots(np.zeros(batch))
        self.tokens, self.batch = tokens, batch
        self.generator = np.random.default_rng(1)
        self.left = 1 + self.generator.integers(tokens, size=batch)  # tokens of each text
        self.unread = np.full(batch, self.PROMPT)  # of each text, by the drafter

    def run(self, num_steps, block_efficiency, speculative_ms, drafter_ms):
        """Tokens per plain step's time of all steps, against plain decoding of the same load, and how many drafted.
        `speculative_ms` is a step's without prompts, `drafter_ms` what the drafter takes for a prompt."""
        tokens, ms, drafted, plain_ms = 0, 0.0, [], self.table.plain_ms(batch=self.batch, context=64)
        read_ms = self.table.plain_ms(self.PROMPT, batch=self.batch, context=64) - plain_ms
        joined = self.left == self.tokens
        for _ in range(num_steps):
            state = replace(context(self.batch), positions=200 - self.left, num_unread=int(joined.sum()) * self.PROMPT)
            step = self.policy.begin(state)
            drafts = step.frontier(self.roots).shape[1] > 0
            blocks = np.ones(self.batch, dtype=np.int64)
            step_ms = plain_ms + joined.sum() * read_ms
            if drafts:
                blocks += 2 * (self.generator.random(self.batch) < (block_efficiency - 1) / 2)
                step_ms += speculative_ms - plain_ms + self.unread.sum() / self.PROMPT * drafter_ms
                self.unread[:] = 0
            self.now += step_ms / 1e3
            step.record(self.roots, [1] * drafts, np.where(np.arange(2) < blocks[:, None] - 1, 1, -1))
            self.left -= blocks
            joined = self.left <= 0
            self.left[joined], self.unread[joined] = self.tokens, self.PROMPT
            tokens, ms = tokens + blocks.mean(), ms + step_ms
            drafted.append(drafts)
        return tokens * (plain_ms + self.batch / self.tokens * read_ms) / ms, np.array(drafted)


def test_under_load_speculation_that_pays_stays_on():
    _, drafted = Load(64).run(1000, block_efficiency=1.8, speculative_ms=80.0, drafter_ms=2.0)
    assert drafted.mean() > 0.97


def test_under_load_the_drafters_reading_of_prompts_decides():
    _, drafted = Load(64).run(1000, block_efficiency=1.8, speculative_ms=80.0, drafter_ms=20.0)
    assert drafted[-500:].mean() < 0.05


def test_under_load_speculation_that_loses_costs_at_most_two_percent():
    speed_up, _ = Load(64).run(6000, block_efficiency=1.4, speculative_ms=130.0, drafter_ms=2.0)
    assert speed_up > 0.98


def test_a_prompt_that_the_drafter_reads_is_paid_by_the_tokens_behind_it():
    load = Load(1, tokens=2000)
    load.unread[:] = 0
    _, drafted = load.run(4000, block_efficiency=2.4, speculative_ms=16.0, drafter_ms=45 * PLAIN_MS)
    assert drafted.mean() > 0.99


def test_batches_of_one_measured_size_share_an_account():
    for size, is_off in ((3, True), (1, False)):
        clockwork = Clockwork(batch=4)
        clockwork.run(200, **LOSING)
        clockwork.roots = DraftTree.from_roots(np.zeros(size))
        _, drafted = clockwork.run(20, **LOSING)
        assert not drafted[1:].any() if is_off else drafted[:8].all()


class Rare:
    """A policy that drafts at the steps of these numbers, of those at which it is asked."""

    information, limits = Selector.information, TreeLimits(max_depth=1, width=1, frontier=1, budget=1)
    reads_history = True

    def __init__(self, drafting=()):
        self.drafting, self.num_asked = drafting, 0

    def begin(self, state):
        self.num_asked += 1
        width = int(self.num_asked in self.drafting)
        return WholeTreeStep(state, lambda tree, _: np.zeros((1, width), dtype=np.int64))


def asked_at(policy, num_steps):
    """Of each step, whether the policy was asked, and whether the history behind it is kept."""
    ticks = count()
    guard, roots = Guard(policy, TABLE, clock=lambda: next(ticks) * PLAIN_MS / 1e3), DraftTree.from_roots(np.zeros(1))
    asked, kept = [], []
    for position in range(num_steps):
        before = policy.num_asked
        step = guard.begin(context(position=position))
        step.record(roots, [1] * step.frontier(roots).shape[1], NOTHING)
        asked.append(policy.num_asked > before)
        kept.append(guard.reads_history)
    return np.array(asked), np.array(kept)


def test_a_policy_that_never_drafts_is_asked_rarely():
    asked, _ = asked_at(Rare(), 500)
    gaps = np.diff(np.nonzero(asked)[0])
    assert gaps[:63].max() == 2  # one plain step in some is a check of what plain decoding takes
    assert set(gaps[63:].tolist()) == {33}


def test_a_policy_that_drafts_sometimes_is_asked_at_every_step():
    asked, _ = asked_at(Rare(drafting=range(10, 500, 15)), 400)
    gaps = np.diff(np.nonzero(asked)[0])
    assert set(gaps.tolist()) == {1, 2}
    assert (gaps == 2).sum() < 8


def test_a_policy_that_rested_and_drafts_is_asked_at_the_next_steps():
    asked, _ = asked_at(Rare(drafting=range(66, 100)), 160)
    places = np.nonzero(asked)[0]
    assert np.diff(places)[62:66].tolist() == [1, 33, 33, 1]
    assert np.diff(places)[66:95].max() <= 2


def test_the_history_is_kept_for_the_last_tokens_before_a_policy_is_asked():
    asked, kept = asked_at(Rare(), 500)
    assert kept.mean() < 0.3
    for step in np.nonzero(asked)[0]:
        assert kept[max(0, step - 4) : step + 1].all()
