"""What other machines and other budgets would make of the same texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...controller.checkpoint import Checkpoint
from ...controller.contract import RANKED_SCHEMES
from ...controller.plans.grids import policy_families
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.objective import nearest
from ...controller.scorers.base import Scorer
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.rank import RankScorer
from ..replay.oracle import oracle_ms
from ..replay.recording import Envelope, Recording
from ..replay.replay import ReplayStats, replay
from ..replay.tuning import gain
from .steps import Run, watch

DRAFTER_LEVELS = (0.1, 0.25)  # plain target steps per drafter level, whatever its width
NODE_SLOPES = (0.004, 0.1)  # plain target steps per verified node
# Families whose shapes depend on the machine's prices; the steps of the others are only priced anew.
PRICED = ("Sequoia", "choice, confidence", "choice, fused", "learned")
REGIME_TEXTS = 10
BUDGETS = (8, 16, 32, 64, 128, 256, 512, 1024)
BUDGET_TEXTS = 4


def machine_regimes(table: LatencyTable) -> Iterator[tuple[dict[str, float], LatencyTable]]:
    """Machines with the plain step of `table` and other prices of drafting and of verified nodes."""
    plain_ms = table.step_ms([], 0, batch=1, context=table.contexts[-1])
    for level in DRAFTER_LEVELS:
        for slope in NODE_SLOPES:
            yield (
                {"drafter_level": level, "per_node": slope},
                LatencyTable(
                    key=table.key,
                    batches=(1,),
                    contexts=table.contexts[-1:],
                    root_ms=((level * plain_ms,),),
                    widths=(1,),
                    draft_ms=(((level * plain_ms,),),),
                    nodes=(0, 1),
                    verify_ms=(((plain_ms, plain_ms * (1 + slope)),),),
                ),
            )


def machine_gains(
    checkpoint: Checkpoint,
    table: LatencyTable,
    temperature: float,
    runs: Sequence[Run],
) -> list[dict[str, Any]]:
    """One row per regime: the learned policy against the best baseline there, on the first texts of `runs`.

    Policies that look at prices look at the regime's; fixed settings stay those tuned for `table`.
    """
    rows = []
    for regime, prices in machine_regimes(table):
        times: dict[str, list[ReplayStats]] = {}
        for scheme in dict.fromkeys(run.plan.scheme for run in runs):
            families = {
                each.name: each for each in policy_families(checkpoint, prices, RANKED_SCHEMES[scheme], temperature)
            }
            for run in runs:
                family, texts = run.plan.family, run.texts[:REGIME_TEXTS]
                if run.plan.scheme != scheme:
                    continue
                if family in PRICED:
                    # The first Sequoia of a grid picks its size by price.
                    settings = families[family].grid[0] if family == "Sequoia" else run.plan.settings
                    ms = watch(families[family].plan(settings), texts, prices).text_ms(prices)
                else:
                    ms = run.text_ms(prices)[: len(texts)]
                times[run.label] = [ReplayStats(priced_ms=float(value)) for value in ms]
        learned = times.pop(f"learned ({checkpoint.config.scheme})")
        best, best_runs = min(times.items(), key=lambda item: sum(stats.priced_ms for stats in item[1]))
        texts = runs[0].texts[:REGIME_TEXTS]
        plain_ms = prices.step_ms([], 0, batch=1, context=0)
        plain = [ReplayStats(priced_ms=plain_ms * stats.num_tokens) for stats in runs[0].stats[: len(texts)]]
        ideal = [ReplayStats(priced_ms=oracle_ms(text, prices)) for text in texts]
        rows.append(
            {
                "temperature": temperature,
                **regime,
                "learned_speed_up": gain(learned, plain)[0],
                "best_baseline": best,
                "best_speed_up": gain(best_runs, plain)[0],
                "oracle_speed_up": gain(ideal, plain)[0],
                "gain": list(gain(learned, best_runs)),
            }
        )
    return rows


def budget_curves(
    checkpoint: Checkpoint, table: LatencyTable, temperature: float, texts: Sequence[Recording]
) -> list[dict[str, Any]]:
    """One row per score and budget: the best nodes under it of the bushiest tree the envelopes hold."""
    some = texts[:BUDGET_TEXTS]
    envelopes = [envelope for text in some for envelope in text.envelopes.values()]
    if not envelopes:
        return []
    shapes = np.array([_extent(envelope) for envelope in envelopes])  # [e, 3]
    depth, frontier, largest = shapes.max(axis=0).tolist()
    sizes = [*(budget for budget in BUDGETS if budget < largest), largest]
    ranks = nearest(checkpoint.baselines["rank_probs"][checkpoint.config.scheme], temperature)
    scorers: dict[str, Callable[[], Scorer]] = {
        "learned": checkpoint.scorer,
        "confidence": ConfidenceScorer,
        "rank": lambda: RankScorer.from_rank_probs(ranks, depth),
    }
    rows = []
    for name, scorer in scorers.items():
        for budget in sizes:
            limits = replace(checkpoint.config.limits, max_depth=depth, frontier=frontier, budget=budget)
            policy = Selector(scorer(), limits)
            stats = ReplayStats.merged(replay(some, policy, table))
            rows.append(
                {
                    "temperature": temperature,
                    "score": name,
                    "budget": budget,
                    "nodes_per_step": stats.num_kept / max(1, stats.num_steps),
                    "block_efficiency": stats.block_efficiency,
                    "speed_up": stats.speed_up,
                    "outside": stats.num_outside,
                }
            )
    return rows


def _extent(envelope: Envelope) -> tuple[int, int, int]:
    """(levels, most nodes expanded at one level, nodes without the root) of an envelope."""
    level, depth, widest = np.zeros(1, dtype=np.int64), 0, 1
    while envelope.expanded[level].any():
        opened = level[envelope.expanded[level]]
        widest, depth = max(widest, len(opened)), depth + 1
        children = envelope.children[opened]
        level = children[children >= 0]
    return depth, widest, len(envelope.tokens) - 1
