"""What the decode loop needs of a language model: forwards over tree rows behind a committed text."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...controller.tree import Array

# Tokens of plain text read by one forward: bounds the attention mask, and the spare rows a cache must have.
CHUNK = 256


class CachedModel(Protocol):
    """A causal language model with a slot of committed rows per request.

    Between two commits, forwards append *tree rows*, numbered 0, 1, ... in the order they were given.
    """

    vocabulary_size: int  # of the tokenizer; rows of logits may be wider
    context_length: int
    device: torch.device

    @property
    def lengths(self) -> Array:
        """[B] int64: committed rows per slot."""
        ...

    def open(self, num_slots: int, capacity: int) -> None:
        """Begin a batch of empty slots, each with room for `capacity` rows."""
        ...

    def forward(self, tokens: Array, positions: Array, visible: Array, *, num_logits: int = 0) -> Tensor:
        """Append n tree rows per slot and return logits [B, n, V], of the last `num_logits` rows if given.

        tokens, positions: [B, n] int64. visible: [B, n, m + n] bool over all m + n tree rows so far, each row
        seeing itself; committed rows are always seen.
        """
        ...

    def commit(self, rows: Array) -> None:
        """Keep tree rows `rows` ([B, A] ascending, -1 behind each slot's last) and drop all others."""
        ...


def append_text(model: CachedModel, tokens: list[Array]) -> list[Tensor | None]:
    """Commit each slot's `tokens` ([n_b] int64) as plain text; [V] logits after each slot's last, None for no tokens.

    Works through `CHUNK` tokens at a time, so that a long prompt never needs a mask of its own size squared.
    """
    counts = np.array([len(text) for text in tokens])
    last_rows: list[Tensor | None] = [None] * len(tokens)
    for start in range(0, int(counts.max()), CHUNK):
        size = min(CHUNK, int(counts.max()) - start)
        taken = np.clip(counts - start, 0, size)
        block = np.zeros((len(tokens), size), dtype=np.int64)
        for slot, text in enumerate(tokens):
            block[slot, : taken[slot]] = text[start : start + taken[slot]]
        positions = model.lengths[:, None] + np.arange(size)
        visible = np.broadcast_to(np.tri(size, dtype=bool), (len(tokens), size, size))
        full = bool((taken == size).all())
        logits = model.forward(block, positions, visible, num_logits=1 if full else 0)
        model.commit(np.where(np.arange(size) < taken[:, None], np.arange(size), -1))
        for slot in np.nonzero(taken)[0]:
            last_rows[slot] = logits[slot, -1 if full else taken[slot] - 1]
    return last_rows
