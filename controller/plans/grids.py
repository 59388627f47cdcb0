"""The policies under comparison, each with a grid of settings; every grid has the same number of trials.

Live runs and replay tune over these plans. An untuned run takes the first settings of a grid. No policy drafts beyond
the limits of the selector.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..checkpoint import SelectorBundle
from ..errors import InputError
from ..policies.base import ShapePolicy
from ..policies.chains import EmaChain, ThresholdChain
from ..policies.eagle2 import eagle2
from ..policies.learned import LEARNED, learned_selector
from ..policies.ltd import LtdPolicy
from ..policies.opt_tree import opt_tree
from ..policies.selector import Selector
from ..policies.sequoia import cheapest_tree, static_selector
from ..pricing.latency import LatencyTable
from ..pricing.objective import Objective, nearest
from ..scorers.base import Scorer
from ..scorers.c2t import c2t_selector
from ..scorers.confidence import ConfidenceScorer
from ..scorers.fused import FusedScorer
from ..scorers.rank import RankScorer
from ..trees.limits import TreeLimits
from ..trees.shapes import chain
from .plan import PolicyPlan
from .setting import Setting
from .tuned import PolicySettings

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
# With size 0 Sequoia chooses depth and size by price; else the size is given and it chooses the depth.
SEQUOIA_SIZES = (0, 2, 4, 6, 8, 12, 16, 24)
DELTAS_BUDGETS = ((0.4, 8), (0.2, 8), (0.6, 8), (0.1, 16), (0.2, 16), (0.4, 16), (0.6, 16), (0.8, 16))
EMA_DECAYS_MARGINS = ((0.8, 1), (0.8, 0.5), (0.8, 0), (0.8, -0.5), (0.95, 1), (0.95, 0.5), (0.95, 0), (0.95, -0.5))
DEPTHS_MISS_WEIGHTS = ((8, 0.75), (4, 0.75), (2, 0.75), (8, 0.5), (4, 0.5), (2, 0.5), (8, 0.25), (4, 0.25))
C2T_DEPTHS_FLOORS = ((4, 0.1), (4, 0.05), (4, 0.2), (4, 0.3), (2, 0.05), (2, 0.1), (2, 0.2), (8, 0.2))
GAINS_FLOORS = ((0.3, 0.02), (0.2, 0.02), (0.4, 0.02), (0.5, 0.02), (0.6, 0.02), (0.3, 0.05), (0.4, 0.05), (0.5, 0.1))
THETA_SCALES = (1.0, 0.5, 0.7, 0.85, 1.2, 1.4, 1.7, 2.0)


def _grid(names: Sequence[str], values: Sequence[Sequence[float]]) -> list[PolicySettings]:
    return [dict(zip(names, trial, strict=True)) for trial in values]


THETA_GRID = _grid(("theta_scale",), [(scale,) for scale in THETA_SCALES])


class Family(NamedTuple):
    """A policy and the settings it is tuned over, which are `make`'s arguments by name."""

    name: str
    scheme: str
    make: Callable[..., ShapePolicy]
    grid: list[PolicySettings]

    def plan(self, settings: PolicySettings) -> PolicyPlan:
        """The policy with some settings, of the grid or not; InputError where their names are another policy's."""
        if settings.keys() != self.grid[0].keys():
            raise InputError(
                f"the checkpoint holds settings {settings} for {self.name!r}, this build takes such as {self.grid[0]}; "
                "retrain it"
            )
        return PolicyPlan(self.name, self.scheme, settings, lambda: self.make(**settings))


def policy_families(selector: SelectorBundle, table: LatencyTable, setting: Setting) -> list[Family]:
    """Every policy under the setting's scheme, for texts sampled at its temperature on the machine of `table`.

    The learned families appear under the scheme they were fitted for.
    """
    families = [
        *_rank_families(selector, table, setting),
        *_confidence_families(selector, table, setting),
        *_fitted_families(selector, table, setting.scheme),
    ]
    assert all(len(family.grid) == NUM_TRIALS for family in families)
    return families


def _rank_families(selector: SelectorBundle, table: LatencyTable, setting: Setting) -> Iterable[Family]:
    """Shapes that are the same at every step, apart from thresholds."""
    scheme, largest, probs = setting.scheme, selector.config.limits, _rank_probs(selector, setting)

    def static_chain(depth: int) -> ShapePolicy:
        return static_selector(chain(min(depth, largest.max_depth)))

    def static(depth: int, budget: int, min_prob: float = 0.0, path_prob: float = 0.0) -> ShapePolicy:
        limits = _within(largest, depth, budget, largest.frontier)
        scorer = RankScorer.from_rank_probs(probs, limits.max_depth)
        return Selector(scorer, limits, min_prob=min_prob, path_prob=path_prob)

    def sequoia(size: int) -> ShapePolicy:
        sizes = [min(size, largest.budget)] if size else range(1, largest.budget + 1)
        paths = cheapest_tree(probs[: largest.num_children], table, max_depth=largest.max_depth, sizes=sizes)
        return static_selector(paths, ngram_rank=largest.width if largest.ngrams else None)

    names = ("depth", "budget", "min_prob", "path_prob")
    yield Family("chain", scheme, static_chain, _grid(("depth",), [(depth,) for depth in CHAIN_DEPTHS]))
    yield Family("static", scheme, static, _grid(names[:2], DEPTHS_BUDGETS))
    yield Family("static, thresholds", scheme, static, _grid(names, THRESHOLDS))
    yield Family("Sequoia", scheme, sequoia, _grid(("size",), [(size,) for size in SEQUOIA_SIZES]))


def _confidence_families(selector: SelectorBundle, table: LatencyTable, setting: Setting) -> Iterable[Family]:
    """Shapes that depend on the drafter's confidence, or on recently accepted lengths."""
    scheme, largest = setting.scheme, selector.config.limits
    coverage = tuple(_rank_probs(selector, setting))

    def ema(decay: float, margin: float) -> ShapePolicy:
        return EmaChain(largest.max_depth, decay=decay, margin=margin)

    def threshold(depth: int, miss_weight: float) -> ShapePolicy:
        return ThresholdChain(min(depth, largest.max_depth), miss_weight=miss_weight)

    def confident(depth: int, budget: int) -> ShapePolicy:
        return eagle2(_within(largest, depth, budget, largest.width))

    def least_gain(delta: float, budget: int) -> ShapePolicy:
        return opt_tree(_within(largest, largest.max_depth, budget, largest.width), delta)

    def choice(scorer: Scorer) -> Callable[[float], ShapePolicy]:
        return lambda theta_scale: Selector(scorer, largest, objective=Objective(table, scale=theta_scale))

    yield Family("EMA length", scheme, ema, _grid(("decay", "margin"), EMA_DECAYS_MARGINS))
    yield Family("online threshold", scheme, threshold, _grid(("depth", "miss_weight"), DEPTHS_MISS_WEIGHTS))
    yield Family("EAGLE-2", scheme, confident, _grid(("depth", "budget"), DEPTHS_BUDGETS))
    yield Family("OPT-Tree", scheme, least_gain, _grid(("delta", "budget"), DELTAS_BUDGETS))
    yield Family("choice, confidence", scheme, choice(ConfidenceScorer(coverage)), THETA_GRID)
    yield Family("choice, fused", scheme, choice(FusedScorer(coverage)), THETA_GRID)


def _fitted_families(selector: SelectorBundle, table: LatencyTable, scheme: str) -> Iterable[Family]:
    """Shapes that depend on a rule or network fitted on traces, under the scheme it was fitted for."""
    largest = selector.config.limits
    c2t, ltd = selector.baselines.c2t.get(scheme), selector.baselines.ltd.get(scheme)

    def pruned(depth: int, floor: float) -> ShapePolicy:
        assert c2t is not None
        return c2t_selector(c2t, _within(largest, depth, largest.budget, largest.width), floor=floor)

    def stopping(gain: float, floor: float) -> ShapePolicy:
        assert ltd is not None
        limits = _within(largest, largest.max_depth, largest.budget, largest.width)
        return LtdPolicy(ltd, limits, gain=gain, floor=floor)

    def learned(theta_scale: float) -> ShapePolicy:
        return learned_selector(selector, table, theta_scale=theta_scale)

    if c2t is not None:
        yield Family("C2T", scheme, pruned, _grid(("depth", "floor"), C2T_DEPTHS_FLOORS))
    if ltd is not None:
        yield Family("LTD", scheme, stopping, _grid(("gain", "floor"), GAINS_FLOORS))
    if scheme == selector.config.scheme:
        yield Family(LEARNED, scheme, learned, THETA_GRID)


def _rank_probs(selector: SelectorBundle, setting: Setting) -> Sequence[float]:
    """The chance of each rank, measured at the temperature nearest to the setting's."""
    return nearest(selector.baselines.rank_probs[setting.scheme], setting.temperature)


def _within(largest: TreeLimits, depth: int, budget: int, frontier: int) -> TreeLimits:
    return replace(
        largest, max_depth=min(depth, largest.max_depth), frontier=frontier, budget=min(budget, largest.budget)
    )
