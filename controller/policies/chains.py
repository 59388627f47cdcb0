"""Chains whose length is adapted online.

`EmaChain` is as long as chains have lately been accepted, the rule of SGLang's adaptive steps and of exllamav3.
`ThresholdChain` ends at the first token whose probability is below a threshold that is fitted again after every step:
the rule of DISCO (arXiv:2405.04304), which transformers' assisted generation uses.
"""

from collections import deque

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .base import WholeTreeStep

# Accepted tokens assumed before any step was seen; a few steps forget it.
FIRST_AVERAGE = 1.0
FIRST_THRESHOLD = 0.4
# Judged tokens that the fit uses, and the least it needs.
WINDOW, LEAST_PAIRS = 1000, 6


class EmaChain:
    """Drafts `round(average + margin)` tokens, `average` the exponential moving average of accepted lengths.

    A chain accepted to its end would have gone on, by an unknown length: it counts one more than its length. A chain
    of length 0 counts 1 by the same rule, so that a policy that stopped drafting tries again.
    """

    information = Information.ANYTHING
    reads_history = False

    def __init__(self, max_depth: int, *, decay: float, margin: float):
        self.limits = chain_limits(max_depth)
        self.decay = decay
        self.margin = margin
        self.average = FIRST_AVERAGE

    @property
    def depth(self) -> int:
        """Tokens the next chain drafts."""
        return int(np.clip(np.floor(self.average + self.margin + 0.5), 0, self.limits.max_depth))

    def begin(self, context: StepContext) -> WholeTreeStep:
        return WholeTreeStep(context, self.frontier, self.learn)

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        return chain_frontier(tree, context, np.full(len(tree.num_nodes), self.depth))

    def learn(self, tree: DraftTree, num_tokens: Array) -> None:
        drafted, accepted = tree.num_nodes - 1, num_tokens - 1
        to_the_end = accepted == drafted
        # A chain that the text's end cut short and that was accepted whole says nothing about the next one.
        telling = ~to_the_end | (drafted == self.depth)
        for length in (accepted + to_the_end)[telling].tolist():
            self.average += (1.0 - self.decay) * (length - self.average)


class ThresholdChain:
    """Drafts on while the last drafted token's probability (read through the scheme) is at least `threshold`.

    `miss_weight` is the weight of an acceptable token refused; that of a rejected token let through is the rest.
    The unsure token that ended a chain is verified too: without it nothing below the threshold is learnt.
    """

    information = Information.ANYTHING
    reads_history = False

    def __init__(self, max_depth: int, *, miss_weight: float):
        self.limits = chain_limits(max_depth)
        self.miss_weight = miss_weight
        self.threshold = FIRST_THRESHOLD
        self._pairs: deque[tuple[float, bool]] = deque(maxlen=WINDOW)

    def begin(self, context: StepContext) -> WholeTreeStep:
        return WholeTreeStep(context, self.frontier, self.learn)

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        last = tree.num_nodes - 1
        probs = np.exp(tree.noisy_log_probs[np.arange(len(last)), last])
        sure = (last == 0) | (probs >= self.threshold)  # the root was not drafted
        return chain_frontier(tree, context, np.where(sure, self.limits.max_depth, 0))

    def learn(self, tree: DraftTree, num_tokens: Array) -> None:
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


def chain_limits(depth: int) -> TreeLimits:
    """The envelope of a chain of up to `depth` tokens."""
    return TreeLimits(max_depth=depth, width=1, frontier=1, budget=depth)


def chain_path(accepted_lengths: Array) -> Array:
    """[B, A]: the nodes of the accepted part of each chain, -1 behind its last, from how many they are [B]."""
    nodes = np.arange(1, int(accepted_lengths.max(initial=0)) + 1)
    return np.where(nodes <= accepted_lengths[:, None], nodes, -1)


def chain_frontier(tree: DraftTree, context: StepContext, max_depths: Array) -> Array:
    """[B, 1]: the last node of each chain that may grow to `max_depths` [B] and was not ended before; else [B, 0]."""
    level, last = int(tree.depths.max()), tree.num_nodes - 1
    growing = (last == level) & (level < np.minimum(max_depths, context.max_depths))
    return np.where(growing, last, -1)[:, None][:, : int(growing.any())]
