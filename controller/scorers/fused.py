"""The more confident of two drafters, the language model and the text's own n-grams, as the score."""

import numpy as np

from ..context import StepContext
from ..trees.tree import DraftTree
from .base import Scores
from .confidence import ConfidenceScorer
from .siblings import at_most_one


class FusedScorer:
    """Scores a node by the larger of both probabilities, siblings by at most 1 in all, for trees in which the n-grams
    draft."""

    reads_history = False

    def __init__(self, coverage: tuple[float, ...]):
        self._confidence = ConfidenceScorer(coverage)

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        accept = at_most_one(np.maximum(tree.noisy_log_probs, tree.ngram_log_probs), tree)
        return self._confidence.score(tree, context)._replace(accept=accept)
