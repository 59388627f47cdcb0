"""The numbers of a drafted node: what is known of it before the target has seen it."""

from typing import NamedTuple

import numpy as np

from .children import Array


class NodeNumbers(NamedTuple):
    """One column per number, of shapes [...] that broadcast to each other. Decoding and training both fill it; a tree's
    columns and the first of the learned score's features are these, in this order.

    Rows are the drafter's, after its temperature and cut. All numbers are 0 at the root.
    """

    log_probs: Array  # log q(token | path)
    noisy_log_probs: Array  # see `Children`; equal to log_probs where the scheme adds no noise
    entropies: Array  # nats, of the row that proposed the node, hence its parent's
    top_log_probs: Array  # the largest log-probability of that row
    margins: Array  # see `sibling_margins`
    ngram_log_probs: Array  # the n-grams' log-probability of the node's token; 0 where they do not draft
    ngram_top_log_probs: Array  # the same of the token they expect most there
    path_log_probs: Array  # log_probs added up from the root (left out) to the node
    path_noisy_log_probs: Array  # the same of noisy_log_probs

    def block(self, shape: tuple[int, ...]) -> Array:
        """[*shape, 9] float32."""
        block = np.empty((*shape, len(self)), dtype=np.float32)
        for index, column in enumerate(self):
            block[..., index] = column
        return block
