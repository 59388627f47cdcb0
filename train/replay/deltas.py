"""OPT-Tree's threshold: every delta beside the one that the choice rule implies.

Another level pays where it adds more expected tokens than its time would bring elsewhere, theta * t_level; under a
fixed budget of nodes the target's time is the same either way. So delta = theta * t_level, where theta is OPT-Tree's
own tokens per millisecond, which hardly depends on delta around its best.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ...controller.checkpoint import SelectorBundle
from ...controller.intervals import Interval
from ...controller.plans.grids import policy_families
from ...controller.plans.setting import Setting
from ...controller.pricing.latency import LatencyTable
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
    """The implied delta first, then those of the grid, all on the texts of OPT-Tree's tuned `run`; none where its trees
    have one level, so that there is nothing to stop."""
    setting = Setting(run.plan.scheme, temperature)
    (family,) = (each for each in policy_families(selector, table, setting) if each.name == OPT_TREE)
    plans = {delta: family.plan(run.plan.settings | {"delta": delta}) for delta in DELTAS}
    level_ms = later_level_ms(replay_steps(plans[0.0], run.texts, table), table)
    if level_ms is None:
        return
    delta = run.total.tokens_per_ms * level_ms
    plans = {delta: family.plan(run.plan.settings | {"delta": delta}), **plans}
    stats = {each: replay(run.texts, plan.build(), table) for each, plan in plans.items()}
    for each, of_texts in stats.items():
        total = ReplayStats.merged(of_texts)
        yield DeltaRow(
            policy=run.plan.label,
            temperature=temperature,
            budget=int(run.plan.settings["budget"]),
            delta=each,
            implied=each == delta,
            levels_per_step=total.levels_per_step,
            nodes_per_step=total.nodes_per_step,
            block_efficiency=total.block_efficiency,
            speed_up=total.speed_up,
            over_implied=gain(of_texts, stats[delta]),
        )


def later_level_ms(run: Run, table: LatencyTable) -> float | None:
    """Mean price of the levels behind each step's first; None where none has more."""
    steps = [step for steps in run.steps for step in steps if len(step.widths) > 1]
    prices = [
        table.levels_ms(step.widths, batch=1, context=step.root)
        - table.levels_ms(step.widths[:1], batch=1, context=step.root)
        for step in steps
    ]
    return sum(prices) / sum(len(step.widths) - 1 for step in steps) if steps else None
