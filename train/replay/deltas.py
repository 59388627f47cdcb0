"""OPT-Tree's threshold: every delta beside the one that the choice rule implies.

The rule drafts another level where its expected tokens exceed theta * t: t is the level's price, with that of verifying
the nodes it adds, and theta OPT-Tree's own tokens per millisecond. OPT-Tree looks at the last level instead of the
next, and believes the drafter: if a level adds `decay` times what the one before it added, and `trust` times as much is
accepted as is expected, then delta = theta * t / (decay * trust).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...controller.checkpoint import SelectorBundle
from ...controller.intervals import Interval
from ...controller.plans.grids import policy_families
from ...controller.plans.setting import Setting
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.limits import TreeLimits
from .replay import ReplayStats, replay
from .steps import Run, replay_steps
from .tuning import gain

OPT_TREE = "OPT-Tree"
DELTAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class DeltaRow:
    """OPT-Tree's steps at one delta, under the budget that was tuned for it."""

    policy: str
    temperature: float
    budget: int
    delta: float
    implied: bool  # by the choice rule, not one of the grid
    levels_per_step: float
    nodes_per_step: float
    block_efficiency: float
    speed_up: float
    over_implied: Interval  # of the time at the implied delta


def delta_rows(selector: SelectorBundle, table: LatencyTable, temperature: float, run: Run) -> Iterator[DeltaRow]:
    """The implied delta first, then those of the grid, all on the texts of OPT-Tree's tuned `run`; none where no level
    follows another, so that there is nothing to stop."""
    setting = Setting(run.plan.scheme, temperature)
    (family,) = (each for each in policy_families(selector, table, setting) if each.name == OPT_TREE)
    plans = {delta: family.plan(run.plan.settings | {"delta": delta}) for delta in DELTAS}
    policy = plans[0.0].build()
    assert isinstance(policy, Selector)
    implied = implied_delta(run, replay_steps(plans[0.0], run.texts, table), table, policy.limits)
    if implied is None:
        return
    plans = {implied: family.plan(run.plan.settings | {"delta": implied}), **plans}
    stats = {delta: replay(run.texts, plan.build(), table) for delta, plan in plans.items()}
    for delta, of_texts in stats.items():
        total = ReplayStats.merged(of_texts)
        yield DeltaRow(
            policy=run.plan.label,
            temperature=temperature,
            budget=int(run.plan.settings["budget"]),
            delta=delta,
            implied=delta == implied,
            levels_per_step=total.levels_per_step,
            nodes_per_step=total.nodes_per_step,
            block_efficiency=total.block_efficiency,
            speed_up=total.speed_up,
            over_implied=gain(of_texts, stats[implied]),
        )


def implied_delta(run: Run, unstopped: Run, table: LatencyTable, limits: TreeLimits) -> float | None:
    """theta * t / (decay * trust): theta and t of the tuned `run`, decay and trust of the same texts `unstopped`, with
    delta 0. None where no level follows another, or nothing is accepted."""
    price, ratios = next_level_ms(run, table, limits), decay_and_trust(unstopped)
    if price is None or ratios is None:
        return None
    decay, trust = ratios
    tokens, ms = sum(stats.num_tokens for stats in run.stats), float(run.text_ms(table).sum())
    return tokens / ms * price / (decay * trust)


def next_level_ms(run: Run, table: LatencyTable, limits: TreeLimits) -> float | None:
    """Mean price of the level that a step did not draft behind its last, at the full frontier, and of verifying its
    nodes too, as far as the budget allows; None where every step ends for want of depth."""
    prices = []
    for step in (step for steps in run.steps for step in steps if 0 < len(step.widths) < limits.max_depth):
        where = {"batch": 1, "context": step.root}
        frontier = min(limits.frontier, limits.num_children ** len(step.widths))
        kept = max(step.num_kept, min(limits.budget, step.num_kept + frontier * limits.num_children))
        verify = table.verify_costs(kept, **where)
        level = table.draft_costs(frontier, level=1, **where)[frontier]
        prices.append(float(level + verify[kept] - verify[step.num_kept]))
    return float(np.mean(prices)) if prices else None


def decay_and_trust(run: Run) -> tuple[float, float] | None:
    """What a level is expected to add over what the level before it is, and accepted over expected tokens, in the sums
    of all steps; None where one of them would be 0."""
    steps = [step for steps in run.steps for step in steps]
    masses = [step.masses or () for step in steps]
    later, earlier = (sum(sum(each) for each in part) for part in ([m[1:] for m in masses], [m[:-1] for m in masses]))
    accepted, expected = sum(step.num_accepted for step in steps), sum(map(sum, masses))
    return (later / earlier, accepted / expected) if later > 0 and accepted > 0 else None
