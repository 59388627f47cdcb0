"""A chain that ends at the first unsure token, the threshold re-fitted online: transformers' assisted generation.

The rule comes from DISCO (arXiv:2405.04304); the fit picks the point of the ROC curve of (probability, accepted) pairs
with the least weighted error.
"""

from collections import deque

import numpy as np

from ..context import StepContext
from ..contract import Looks
from ..tree import Array, DraftTree
from .base import chain_frontier, chain_limits, keep_all

FIRST_THRESHOLD = 0.4
# Judged tokens the fit looks back on, and how many it needs before it says anything.
WINDOW, LEAST_PAIRS = 1000, 6


class ThresholdChain:
    """Drafts on while the last drafted token's probability (read through the law) is at least `threshold`.

    `miss_weight` is the weight of an acceptable token refused; that of a rejected token let through is the rest.
    """

    looks = Looks.ANYTHING
    reads_history = False

    def __init__(self, max_depth: int, *, miss_weight: float):
        self.limits = chain_limits(max_depth)
        self.miss_weight = miss_weight
        self.threshold = FIRST_THRESHOLD
        self._pairs: deque[tuple[float, bool]] = deque(maxlen=WINDOW)

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        last = tree.num_nodes - 1
        probs = np.exp(tree.noisy_log_probs[np.arange(len(last)), last])
        sure = (last == 0) | (probs >= self.threshold)  # the root was not drafted
        return chain_frontier(tree, context, np.where(sure, self.limits.max_depth, 0))

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        """The unsure token that ended a chain is verified too: without it nothing below the threshold is learnt."""
        return keep_all(tree)

    def record(self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array) -> None:
        for row in range(len(num_tokens)):
            # The first rejected token is judged, the ones behind it are not.
            judged = min(int(num_tokens[row]), int(tree.num_nodes[row]) - 1)
            probs = np.exp(tree.noisy_log_probs[row, 1 : judged + 1])
            accepted = np.arange(judged) < num_tokens[row] - 1
            self._pairs.extend(zip(probs.tolist(), accepted.tolist(), strict=True))
        pairs = np.array(self._pairs).reshape(-1, 2)
        accepted = pairs[:, 1] > 0
        if len(pairs) >= LEAST_PAIRS and accepted.any() and not accepted.all():
            self.threshold = best_threshold(pairs[:, 0], accepted, self.miss_weight)


def best_threshold(probs: Array, accepted: Array, miss_weight: float) -> float:
    """The threshold with the least `(1 - miss_weight) * FPR + miss_weight * FNR`, the highest of equals.

    `probs` [n], `accepted` [n] bool with both answers among them; infinity refuses every token.
    """
    thresholds = np.concatenate(([np.inf], np.unique(probs)[::-1]))

    def share_refused(values: Array) -> Array:
        return np.searchsorted(np.sort(values), thresholds, side="left") / len(values)

    errors = (1.0 - miss_weight) * (1.0 - share_refused(probs[~accepted]))
    errors += miss_weight * share_refused(probs[accepted])
    return float(thresholds[np.argmin(errors)])
