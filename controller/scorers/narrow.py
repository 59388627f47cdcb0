"""Fewer children per node than the drafter gives."""

import numpy as np

from ..context import StepContext
from ..trees.tree import DraftTree
from .base import Scorer, Scores


class NarrowScorer:
    """Another scorer's scores of each node's first `width` children; the others are never taken."""

    def __init__(self, scorer: Scorer, width: int):
        self.reads_history = scorer.reads_history
        self._scorer = scorer
        self._width = width

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        scores = self._scorer.score(tree, context, before)
        accept = np.where(tree.ranks < self._width, scores.accept, -np.inf)
        coverage = np.where(np.arange(scores.coverage.shape[2]) < self._width, scores.coverage, -np.inf)
        return scores._replace(accept=accept, coverage=coverage)
