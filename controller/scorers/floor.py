"""Any score without the branches whose probability is below a floor."""

import numpy as np

from ..context import StepContext
from ..trees.tree import DraftTree
from .base import Scorer, Scores


class FloorScorer:
    """Another scorer's answers, -inf where the probability of the whole path falls below `floor`."""

    def __init__(self, scorer: Scorer, floor: float):
        self.reads_history = scorer.reads_history
        self._scorer = scorer
        self._floor = np.log(floor)

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        scores = self._scorer.score(tree, context, before)
        unlikely = tree.path_sums(np.minimum(scores.accept, 0.0)) < self._floor
        return scores._replace(accept=np.where(unlikely, -np.inf, scores.accept))
