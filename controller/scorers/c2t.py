"""C2T (arXiv:2502.13652): a small classifier says which nodes will be accepted; branches it doubts are pruned.

It sees three numbers of a node: joint probability of its path, entropy of the row that proposed it, depth. The paper's
has 241 weights; this is a logistic one, fitted like the paper's on all nodes of grown trees.
"""

import numpy as np

from ..context import StepContext
from ..policies.selector import Selector
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .base import Scores
from .confidence import TYPICAL_COVERAGE
from .floor import FloorScorer
from .logistic import LogisticRule

# Log-probabilities below this say no more than "never".
LEAST_LOG_PROB = -12.0


def c2t_features(joint_log_probs: Array, entropies: Array, depths: Array) -> Array:
    """[..., 3] from broadcastable columns [...]; the joint probability is that of the path to the node, the node
    included, read through the scheme."""
    columns = (np.maximum(joint_log_probs, LEAST_LOG_PROB), entropies, depths)
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


class C2TScorer:
    """The classifier as a scorer."""

    reads_history = False

    def __init__(self, rule: LogisticRule):
        self._rule = rule

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        features = c2t_features(tree.path_noisy_log_probs, tree.entropies, tree.depths)
        log_values = -np.logaddexp(0.0, -self._rule.log_odds(features))
        log_values[:, 0] = 0.0
        above = np.maximum(tree.parents, 0)
        for depth in range(1, tree.depths.max() + 1):  # a node is not reached but through its parent
            rows, nodes = np.nonzero(tree.depths == depth)
            capped = np.minimum(log_values[rows, nodes], log_values[rows, above[rows, nodes]])
            log_values[rows, nodes] = capped
        coverage = np.broadcast_to(np.log(TYPICAL_COVERAGE), (*tree.tokens.shape, len(TYPICAL_COVERAGE)))
        return Scores(tree, log_values - np.take_along_axis(log_values, above, axis=1), coverage)


def c2t_selector(rule: LogisticRule, limits: TreeLimits, *, floor: float) -> Selector:
    """Branches below `floor` are pruned; of the others each level's best are expanded."""
    return Selector(FloorScorer(C2TScorer(rule), floor), limits)
