"""A chain as long as chains have lately been accepted, the rule of SGLang's adaptive steps and of exllamav3."""

import numpy as np

from ..context import StepContext
from ..contract import Looks
from ..tree import Array, DraftTree
from .base import chain_frontier, chain_limits, keep_all

# Accepted tokens assumed before any step was seen; a few steps forget it.
FIRST_AVERAGE = 1.0


class EmaChain:
    """Drafts `round(average + margin)` tokens, `average` the exponential moving average of accepted lengths.

    A chain accepted to its end would have gone on, nobody knows how far: it counts one more than its length. A chain
    of length 0 counts 1 by the same rule, so that a policy that stopped drafting tries again.
    """

    looks = Looks.ANYTHING
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

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        return chain_frontier(tree, context, np.full(len(tree.num_nodes), self.depth))

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        return keep_all(tree)

    def record(self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array) -> None:
        drafted, accepted = tree.num_nodes - 1, num_tokens - 1
        to_the_end = accepted == drafted
        # A chain that the text's end cut short and that was accepted whole says nothing about the next one.
        telling = ~to_the_end | (drafted == self.depth)
        for length in (accepted + to_the_end)[telling].tolist():
            self.average += (1.0 - self.decay) * (length - self.average)
