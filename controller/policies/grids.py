"""The policies under comparison, each a grid of settings; every grid has the same number of trials.

Live runs and replay tune over these very plans. The first setting of a grid is what an untuned run takes. No policy
drafts beyond the limits of the checkpoint, the learned one's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..checkpoint import Checkpoint
from ..contract import LawTerms
from ..latency import LatencyTable
from ..objective import Objective
from ..scorers.base import Scorer
from ..scorers.confidence import ConfidenceScorer
from ..scorers.fused import FusedScorer
from ..scorers.rank import RankScorer
from ..selector import Selector, TreeLimits
from ..shapes import chain
from .base import PolicyPlan, ShapePolicy
from .c2t import c2t_selector
from .ema import EmaChain
from .learned import learned_selector
from .sequoia import cheapest_tree, static_selector
from .stop import StopPolicy
from .threshold import ThresholdChain

NUM_TRIALS = 8
CHAIN_DEPTHS = (3, 1, 2, 4, 5, 6, 7, 8)
DEPTHS_BUDGETS = ((3, 8), (1, 3), (2, 4), (2, 8), (3, 12), (4, 12), (5, 16), (6, 24))
THRESHOLDS = (  # depth, budget, min_prob, path_prob
    (3, 8, 0.1, 0.01),
    (3, 8, 0.05, 0.001),
    (3, 8, 0.2, 0.01),
    (3, 8, 0.4, 0.05),
    (2, 8, 0.05, 0.001),
    (2, 8, 0.2, 0.01),
    (4, 12, 0.1, 0.001),
    (4, 12, 0.2, 0.01),
)
# Sequoia picks depth and size by price; or the size is given and it picks the depth.
SEQUOIA_SIZES = ("priced", 2, 4, 6, 8, 12, 16, 24)
DELTAS_BUDGETS = ((0.4, 8), (0.2, 8), (0.6, 8), (0.1, 16), (0.2, 16), (0.4, 16), (0.6, 16), (0.8, 16))
EMA_DECAYS_MARGINS = ((0.8, 1), (0.8, 0.5), (0.8, 0), (0.8, -0.5), (0.95, 1), (0.95, 0.5), (0.95, 0), (0.95, -0.5))
DEPTHS_MISS_WEIGHTS = ((8, 0.75), (4, 0.75), (2, 0.75), (8, 0.5), (4, 0.5), (2, 0.5), (8, 0.25), (4, 0.25))
C2T_DEPTHS_FLOORS = ((4, 0.1), (4, 0.05), (4, 0.2), (4, 0.3), (2, 0.05), (2, 0.1), (2, 0.2), (8, 0.2))
STOP_GAINS_FLOORS = (
    (0.3, 0.02),
    (0.2, 0.02),
    (0.4, 0.02),
    (0.5, 0.02),
    (0.6, 0.02),
    (0.3, 0.05),
    (0.4, 0.05),
    (0.5, 0.1),
)
THETA_SCALES = (1.0, 0.5, 0.7, 0.85, 1.2, 1.4, 1.7, 2.0)

Trial = tuple[dict[str, Any], Callable[[], ShapePolicy]]


def policy_grids(
    checkpoint: Checkpoint, table: LatencyTable, laws: Sequence[LawTerms], temperature: float
) -> dict[tuple[str, str], list[PolicyPlan]]:
    """The plans of every policy by (family, law), for texts drawn at `temperature` on the machine of `table`.

    The learned families appear under the law they were fitted for.
    """
    grids = {}
    for law in laws:
        families = _rank_families(checkpoint, table, law, temperature)
        families |= _confidence_families(checkpoint, table, law, temperature)
        families |= _fitted_families(checkpoint, table, law)
        for family, trials in families.items():
            assert len(trials) == NUM_TRIALS, f"{family} has {len(trials)} trials"
            plans = [PolicyPlan(family, law.name, settings, build) for settings, build in trials]
            grids[family, law.name] = plans
    return grids


def _rank_families(
    checkpoint: Checkpoint, table: LatencyTable, law: LawTerms, temperature: float
) -> dict[str, list[Trial]]:
    """Shapes that are the same at every step, thresholds aside."""
    largest, probs = checkpoint.config.limits, _rank_probs(checkpoint, law, temperature)

    def static(depth: int, budget: int, min_prob: float = 0.0, path_prob: float = 0.0) -> ShapePolicy:
        limits = _within(largest, depth, budget, largest.frontier)
        scorer = RankScorer.from_rank_probs(probs, limits.max_depth)
        return Selector(scorer, limits, min_prob=min_prob, path_prob=path_prob)

    def sequoia(size: int | str) -> Trial:
        sizes = range(1, largest.budget + 1) if size == "priced" else [min(int(size), largest.budget)]
        paths = cheapest_tree(probs[: largest.num_children], table, max_depth=largest.max_depth, sizes=sizes)
        depth = max(map(len, paths))
        static_tree = partial(static_selector, paths, ngram_rank=largest.width if largest.ngrams else None)
        return {"size": size, "nodes": len(paths), "depth": depth}, static_tree

    return {
        "chain": [
            ({"depth": depth}, partial(static_selector, chain(min(depth, largest.max_depth)))) for depth in CHAIN_DEPTHS
        ],
        "static": [
            ({"depth": depth, "budget": budget}, partial(static, depth, budget)) for depth, budget in DEPTHS_BUDGETS
        ],
        "static, thresholds": [
            (
                {"depth": depth, "budget": budget, "min_prob": min_prob, "path_prob": path_prob},
                partial(static, depth, budget, min_prob=min_prob, path_prob=path_prob),
            )
            for depth, budget, min_prob, path_prob in THRESHOLDS
        ],
        "Sequoia": [sequoia(size) for size in SEQUOIA_SIZES],
    }


def _confidence_families(
    checkpoint: Checkpoint, table: LatencyTable, law: LawTerms, temperature: float
) -> dict[str, list[Trial]]:
    """Shapes that follow the drafter's confidence, or what was lately accepted."""
    largest = checkpoint.config.limits
    coverage = tuple(_rank_probs(checkpoint, law, temperature))

    def beam(depth: int, budget: int, delta: float = 0.0) -> ShapePolicy:
        return Selector(ConfidenceScorer(), _within(largest, depth, budget, largest.width), delta=delta)

    def choice(scorer: Callable[[tuple[float, ...]], Scorer], scale: float) -> ShapePolicy:
        return Selector(scorer(coverage), largest, objective=Objective(table, scale=scale))

    return {
        "EMA length": [
            ({"decay": decay, "margin": margin}, partial(EmaChain, largest.max_depth, decay=decay, margin=margin))
            for decay, margin in EMA_DECAYS_MARGINS
        ],
        "online threshold": [
            (
                {"depth": depth, "miss_weight": weight},
                partial(ThresholdChain, min(depth, largest.max_depth), miss_weight=weight),
            )
            for depth, weight in DEPTHS_MISS_WEIGHTS
        ],
        "EAGLE-2": [
            ({"depth": depth, "budget": budget}, partial(beam, depth, budget)) for depth, budget in DEPTHS_BUDGETS
        ],
        "OPT-Tree": [
            ({"delta": delta, "budget": budget}, partial(beam, largest.max_depth, budget, delta=delta))
            for delta, budget in DELTAS_BUDGETS
        ],
        "choice, confidence": [
            ({"theta scale": scale}, partial(choice, ConfidenceScorer, scale)) for scale in THETA_SCALES
        ],
        "choice, fused": [({"theta scale": scale}, partial(choice, FusedScorer, scale)) for scale in THETA_SCALES],
    }


def _fitted_families(checkpoint: Checkpoint, table: LatencyTable, law: LawTerms) -> dict[str, list[Trial]]:
    """Shapes that follow something fitted on traces, under the law of those traces."""
    largest = checkpoint.config.limits
    families: dict[str, list[Trial]] = {}
    c2t = checkpoint.baselines.get("c2t", {}).get(law.name)
    if c2t is not None:
        families["C2T"] = [
            (
                {"depth": depth, "floor": floor},
                partial(c2t_selector, c2t, _within(largest, depth, largest.budget, largest.width), floor=floor),
            )
            for depth, floor in C2T_DEPTHS_FLOORS
        ]
    stop = checkpoint.baselines.get("ltd", {}).get(law.name)
    if stop is not None:
        limits = _within(largest, largest.max_depth, largest.budget, largest.width)
        families["LTD-like stop"] = [
            ({"gain": gain, "floor": floor}, partial(StopPolicy, stop, limits, gain=gain, floor=floor))
            for gain, floor in STOP_GAINS_FLOORS
        ]
    if law.name == checkpoint.config.law:
        families["learned"] = [
            ({"theta scale": scale}, partial(learned_selector, checkpoint, table, theta_scale=scale))
            for scale in THETA_SCALES
        ]
    return families


def _rank_probs(checkpoint: Checkpoint, law: LawTerms, temperature: float) -> list[float]:
    """The chance of each rank, measured at the temperature nearest to the one asked for."""
    tables = checkpoint.baselines["rank_probs"][law.name]
    return tables[min(tables, key=lambda other: abs(float(other) - temperature))]


def _within(largest: TreeLimits, depth: int, budget: int, frontier: int) -> TreeLimits:
    return replace(
        largest, max_depth=min(depth, largest.max_depth), frontier=frontier, budget=min(budget, largest.budget)
    )
