"""Depth and size decided at every step by a small learned rule, after LTD (arXiv:2603.01639).

LTD's two networks see the probabilities of the drafted nodes and the depth, and are trained by reinforcement. Here the
depth rule is a logistic one, fitted on grown trees, and the size rule a floor under the probability of a verified
node.
"""

from dataclasses import dataclass

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..scorers.confidence import ConfidenceScorer
from ..scorers.floor import FloorScorer
from ..scorers.logistic import LogisticRule
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .selector import Selector, SelectorStep


def ltd_features(path_probs: Array, depth: int) -> Array:
    """[3] from the path probabilities (read through the scheme) of the last level's nodes, and its depth."""
    return np.array([path_probs.max(), path_probs.sum(), depth])


class LtdPolicy:
    """Drafts another level while the chance that it adds a token is at least `gain`, and verifies nodes no less likely
    than `floor`.

    `rule` gives the log odds of that chance. Inside a level the best nodes by confidence are expanded.
    """

    information = Information.ANYTHING
    reads_history = False

    def __init__(self, rule: LogisticRule, limits: TreeLimits, *, gain: float, floor: float):
        self.limits = limits
        self.gain = gain
        self._rule = rule
        self._selector = Selector(FloorScorer(ConfidenceScorer(), floor), limits)

    def begin(self, context: StepContext) -> "LtdStep":
        return LtdStep(self, self._selector.begin(context))

    def gain_chance(self, tree: DraftTree, row: int, level: int) -> float:
        """The chance that a level below `level` adds a token to one tree of the batch."""
        probs = np.exp(tree.path_noisy_log_probs[row, tree.depths[row] == level].astype(np.float64))
        if len(probs) == 0:
            return 0.0
        return float(1.0 / (1.0 + np.exp(-self._rule.log_odds(ltd_features(probs, level)))))


@dataclass(frozen=True)
class LtdStep:
    """A `Step` (see `base`); nothing is learnt while decoding."""

    policy: LtdPolicy
    inside: SelectorStep

    def frontier(self, tree: DraftTree) -> Array:
        nodes = self.inside.frontier(tree)
        level = int(tree.depths.max())
        if level == 0:
            return nodes
        chances = [self.policy.gain_chance(tree, row, level) for row in range(len(nodes))]
        nodes = np.where((np.array(chances) >= self.policy.gain)[:, None], nodes, -1)
        return nodes[:, : int((nodes >= 0).sum(axis=1).max(initial=0))]

    def keep(self, tree: DraftTree) -> Array:
        return self.inside.keep(tree)

    @property
    def log_values(self) -> Array | None:
        return self.inside.log_values

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        self.inside.record(tree, level_widths, path)
