"""Depth and size decided at every step by a small learned rule, after LTD (arXiv:2603.01639).

LTD's two networks see the probabilities of the drafted nodes and the depth, and are trained by reinforcement. Here the
depth rule is a logistic one, fitted on traces, and the size rule a floor under the probability of a verified node.
"""

from typing import Any

import numpy as np

from ..context import StepContext
from ..contract import Looks
from ..scorers.confidence import ConfidenceScorer
from ..scorers.floor import FloorScorer
from ..selector import Selector, TreeLimits
from ..tree import Array, DraftTree


def stop_features(max_probs: Array, sum_probs: Array, depths: Array) -> Array:
    """[..., 3] from broadcastable columns [...]: of the children of one node, drafted at this depth, the largest
    probability and the sum of them, each given the node and read through the law."""
    return np.stack(np.broadcast_arrays(max_probs, sum_probs, depths), axis=-1)


class StopPolicy:
    """Drafts another level while it promises at least `gain` more tokens, and verifies nodes no less likely than
    `floor`.

    `fit` (`weights` [3], `bias`) gives the log odds that the text, once at a node, runs through one of its children
    and on through one of theirs; summed over the nodes of the last level but one, each by its path probability, this
    is what another level promises. Inside a level the best nodes by confidence are expanded.
    """

    looks = Looks.ANYTHING

    def __init__(self, fit: dict[str, Any], limits: TreeLimits, *, gain: float, floor: float):
        self.limits = limits
        self.gain = gain
        self._weights, self._bias = np.asarray(fit["weights"]), float(fit["bias"])
        self._selector = Selector(FloorScorer(ConfidenceScorer(), floor), limits)

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        nodes = self._selector.frontier(tree, context)
        level = int(tree.depths.max())
        if level == 0:
            return nodes
        going_on = np.array([self.promise(tree, row, level) >= self.gain for row in range(len(nodes))])
        nodes = np.where(going_on[:, None], nodes, -1)
        return nodes[:, : int((nodes >= 0).sum(axis=1).max(initial=0))]

    def promise(self, tree: DraftTree, row: int, level: int) -> float:
        """Tokens that a level below `level` is expected to add to one tree of the batch."""
        last = np.nonzero(tree.depths[row] == level)[0]
        if len(last) == 0:
            return 0.0
        above, family = np.unique(tree.parents[row, last], return_inverse=True)
        probs = np.exp(tree.noisy_log_probs[row, last].astype(np.float64))
        largest, total = np.zeros(len(above)), np.zeros(len(above))
        np.maximum.at(largest, family, probs)
        np.add.at(total, family, probs)
        log_odds = stop_features(largest, total, np.array(level)) @ self._weights + self._bias
        reached = np.exp(tree.path_noisy_log_probs[row, above].astype(np.float64))
        return float((reached / (1.0 + np.exp(-log_odds))).sum())

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        return self._selector.keep(tree, context)

    def record(self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array) -> None:
        """Nothing is learnt while decoding."""
