"""OPT-Tree (arXiv:2406.17276): drafting ends once another level adds too few expected accepted tokens."""

from ..scorers.confidence import ConfidenceScorer
from ..trees.limits import TreeLimits
from .selector import Selector


def opt_tree(limits: TreeLimits, delta: float) -> Selector:
    """Drafts on while the last level added at least `delta` expected tokens to the best tree of the budget."""
    return Selector(ConfidenceScorer(), limits, delta=delta)
