"""EAGLE-2 (arXiv:2406.16858): trees grown by the drafter's own confidence, then re-ranked."""

from ..scorers.confidence import ConfidenceScorer
from ..trees.limits import TreeLimits
from .selector import Selector


def eagle2(limits: TreeLimits, *, min_prob: float = 0.0, path_prob: float = 0.0) -> Selector:
    """Expands the `limits.frontier` most probable nodes of each level, by their paths, and verifies the
    `limits.budget` most probable of all; the thresholds are those of `Selector`."""
    return Selector(ConfidenceScorer(), limits, min_prob=min_prob, path_prob=path_prob)
