"""Any score, less the branches that are too unlikely to be worth a node."""

import numpy as np

from ..context import StepContext
from ..trees.tree import Array, DraftTree
from .base import Scorer


class FloorScorer:
    """Another scorer's answers, -inf where the probability of the whole path falls below `floor`."""

    def __init__(self, scorer: Scorer, floor: float):
        self._scorer = scorer
        self._floor = np.log(floor)

    @property
    def reads_history(self) -> bool:
        return self._scorer.reads_history

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        edges = self._scorer.score(tree, context)
        return np.where(tree.path_sums(np.minimum(edges, 0.0)) < self._floor, -np.inf, edges)

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        return self._scorer.coverage(tree, context)
