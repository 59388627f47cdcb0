"""The drafter's own confidence as the score (EAGLE-2, arXiv:2406.16858; OPT-Tree, arXiv:2406.17276)."""

import numpy as np

from ..context import StepContext
from ..trees.tree import DraftTree
from .base import Scores

# Share of steps in which the target takes the rank-w child, the n-grams' child last; used only to decide whether to
# draft another level.
TYPICAL_COVERAGE = (0.6, 0.12, 0.06, 0.04, 0.04)


class ConfidenceScorer:
    """Scores a node by the drafter's probability, read through the scheme that ranked it.

    Under the coupled scheme the drafter ranks by `logit / T + g`, and the target draws by the same noise g: the softmax
    of those noisy scores is the confidence that both agree. Under the fixed scheme, and at T = 0, it is the drafter's
    plain probability.
    """

    reads_history = False

    def __init__(self, coverage: tuple[float, ...] = TYPICAL_COVERAGE):
        self._coverage = np.log(coverage)

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        coverage = np.broadcast_to(self._coverage, (*tree.tokens.shape, len(self._coverage)))
        return Scores(tree, tree.noisy_log_probs, coverage)
