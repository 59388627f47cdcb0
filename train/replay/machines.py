"""The same texts on machines with other prices, and under other node budgets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...controller.checkpoint import SelectorBundle
from ...controller.intervals import Interval
from ...controller.plans.grids import policy_families
from ...controller.plans.setting import Setting
from ...controller.policies.learned import LEARNED
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.objective import nearest
from ...controller.scorers.base import Scorer
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.rank import RankScorer
from .oracle import oracle_ms
from .recording import Envelope, Recording
from .replay import ReplayStats, replay
from .steps import Run
from .tuning import gain

DRAFTER_LEVELS = (0.1, 0.25)  # plain target steps per drafter level, whatever its width
NODE_SLOPES = (0.004, 0.1)  # plain target steps per verified node
# Families whose shapes depend on prices; for the others, the same steps are priced by another table.
PRICED = ("Sequoia", "choice, confidence", "choice, fused", "learned")
REGIME_TEXTS = 10
BUDGETS = (8, 16, 32, 64, 128, 256, 512, 1024)
BUDGET_TEXTS = 4


@dataclass(frozen=True)
class Regime:
    """Prices in plain target steps."""

    drafter_level: float
    per_node: float

    @property
    def title(self) -> str:
        return f"level {self.drafter_level:g}, node {self.per_node:g}"

    def table(self, measured: LatencyTable) -> LatencyTable:
        """A machine with the plain step of the `measured` one."""
        plain_ms = measured.step_ms([], 0, batch=1, context=measured.contexts[-1])
        level_ms = self.drafter_level * plain_ms
        return LatencyTable(
            key=measured.key,
            batches=(1,),
            contexts=measured.contexts[-1:],
            root_ms=((level_ms,),),
            widths=(1,),
            draft_ms=(((level_ms,),),),
            nodes=(0, 1),
            verify_ms=(((plain_ms, plain_ms * (1 + self.per_node)),),),
        )


REGIMES = tuple(Regime(level, slope) for level in DRAFTER_LEVELS for slope in NODE_SLOPES)


@dataclass(frozen=True)
class MachineRow:
    """The learned policy against the best baseline on a machine."""

    temperature: float
    regime: Regime
    learned_speed_up: float
    best_baseline: str
    best_speed_up: float
    oracle_speed_up: float
    gain: Interval


@dataclass(frozen=True)
class BudgetRow:
    """The best nodes by a score, `budget` of them, of the largest tree the envelopes hold."""

    temperature: float
    score: str
    budget: int
    nodes_per_step: float
    block_efficiency: float
    speed_up: float
    outside: int


def machine_gains(
    selector: SelectorBundle, table: LatencyTable, temperature: float, runs: Sequence[Run]
) -> Iterator[MachineRow]:
    """One row per regime, on the first texts of `runs`.

    Policies that use prices use the regime's; fixed settings stay those tuned for `table`.
    """
    texts = runs[0].texts[:REGIME_TEXTS]
    for regime in REGIMES:
        prices = regime.table(table)
        times = {run.plan.label: _priced(run, selector, prices, temperature) for run in runs}
        learned = times.pop(f"{LEARNED} ({selector.config.scheme})")
        best, best_runs = min(times.items(), key=lambda item: sum(stats.priced_ms for stats in item[1]))
        plain_ms = prices.step_ms([], 0, batch=1, context=0)
        plain = [ReplayStats(priced_ms=plain_ms * stats.num_tokens) for stats in runs[0].stats[: len(texts)]]
        ideal = [ReplayStats(priced_ms=oracle_ms(text, prices)) for text in texts]
        yield MachineRow(
            temperature=temperature,
            regime=regime,
            learned_speed_up=gain(learned, plain).value,
            best_baseline=best,
            best_speed_up=gain(best_runs, plain).value,
            oracle_speed_up=gain(ideal, plain).value,
            gain=gain(learned, best_runs),
        )


def _priced(run: Run, selector: SelectorBundle, prices: LatencyTable, temperature: float) -> list[ReplayStats]:
    """The first texts of a run at other prices."""
    texts, name = run.texts[:REGIME_TEXTS], run.plan.family
    if name in PRICED:
        families = policy_families(selector, prices, Setting(run.plan.scheme, temperature))
        (family,) = (each for each in families if each.name == name)
        # The first Sequoia of a grid picks its size by price.
        settings = family.grid[0] if name == "Sequoia" else run.plan.settings
        return replay(texts, family.plan(settings).build(), prices)
    return [ReplayStats(priced_ms=float(ms)) for ms in run.text_ms(prices)[: len(texts)]]


def budget_curves(
    selector: SelectorBundle, table: LatencyTable, temperature: float, texts: Sequence[Recording]
) -> Iterator[BudgetRow]:
    """One row per score and budget."""
    some = texts[:BUDGET_TEXTS]
    envelopes = [envelope for text in some for envelope in text.envelopes.values()]
    if not envelopes:
        return
    shapes = np.array([_extent(envelope) for envelope in envelopes])  # [e, 3]
    depth, frontier, largest = shapes.max(axis=0).tolist()
    ranks = nearest(selector.baselines.rank_probs[selector.config.scheme], temperature)
    scorers: dict[str, Callable[[], Scorer]] = {
        LEARNED: selector.scorer,
        "confidence": ConfidenceScorer,
        "rank": lambda: RankScorer.from_rank_probs(ranks, depth),
    }
    for name, scorer in scorers.items():
        for budget in (*(budget for budget in BUDGETS if budget < largest), largest):
            limits = replace(selector.config.limits, max_depth=depth, frontier=frontier, budget=budget)
            stats = ReplayStats.merged(replay(some, Selector(scorer(), limits), table))
            yield BudgetRow(
                temperature=temperature,
                score=name,
                budget=budget,
                nodes_per_step=stats.nodes_per_step,
                block_efficiency=stats.block_efficiency,
                speed_up=stats.speed_up,
                outside=stats.num_outside,
            )


def _extent(envelope: Envelope) -> tuple[int, int, int]:
    """(levels, most nodes expanded at one level, nodes without the root) of an envelope."""
    level, depth, widest = np.zeros(1, dtype=np.int64), 0, 1
    while envelope.expanded[level].any():
        opened = level[envelope.expanded[level]]
        widest, depth = max(widest, len(opened)), depth + 1
        children = envelope.children[opened]
        level = children[children >= 0]
    return depth, widest, len(envelope.tokens) - 1
