"""The more confident of two drafters, the language model and the text's own n-grams, as the score."""

import numpy as np

from ..context import StepContext
from ..tree import Array, DraftTree
from .confidence import ConfidenceScorer


class FusedScorer:
    """Scores a node by the larger of both probabilities, for trees in which the n-grams draft."""

    reads_history = False

    def __init__(self, coverage: tuple[float, ...]):
        self._confidence = ConfidenceScorer(coverage)

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        return np.maximum(tree.noisy_log_probs, tree.ngram_log_probs)

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        return self._confidence.coverage(tree, context)
