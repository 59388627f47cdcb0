"""C2T (arXiv:2502.13652): a small classifier says which nodes will be accepted; branches it doubts are pruned.

It sees three numbers of a node: joint probability of its path, entropy of the row that proposed it, depth. The paper
fits 241 weights on whole trees; this is a logistic one fitted on edges whose parent was reached, the only ones a trace
can judge, so its answer is conditional on the parent and multiplies along the path.
"""

from typing import Any

import numpy as np

from ..context import StepContext
from ..features import LEAST_LOG_PROB
from ..scorers.confidence import TYPICAL_COVERAGE
from ..scorers.floor import FloorScorer
from ..selector import Selector, TreeLimits
from ..tree import Array, DraftTree


def c2t_features(joint_log_probs: Array, entropies: Array, depths: Array) -> Array:
    """[..., 3] from broadcastable columns [...]; the joint probability is that of the path to the node, the node
    included, read through the law."""
    columns = (np.maximum(joint_log_probs, LEAST_LOG_PROB), entropies, depths)
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


class C2TScorer:
    """The classifier as a scorer; `fit` holds the `weights` [3] and the `bias` of log odds."""

    def __init__(self, fit: dict[str, Any]):
        self._weights, self._bias = np.asarray(fit["weights"]), float(fit["bias"])

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        features = c2t_features(tree.path_noisy_log_probs, tree.entropies, tree.depths)
        scores = -np.logaddexp(0.0, -(features @ self._weights + self._bias))
        scores[:, 0] = 0.0
        return scores

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        return np.broadcast_to(np.log(TYPICAL_COVERAGE), (*tree.tokens.shape, len(TYPICAL_COVERAGE)))


def c2t_selector(fit: dict[str, Any], limits: TreeLimits, *, floor: float) -> Selector:
    """Branches below `floor` are pruned; of the others each level's best are expanded."""
    return Selector(FloorScorer(C2TScorer(fit), floor), limits)
