"""The target: one forward over the root and the kept nodes gives a row of logits after each."""

import numpy as np
from torch import Tensor

from ..controller.tree import Array, DraftTree
from .backends.base import CHUNK, CachedModel, append_text


class Target:
    """Scores trees behind committed texts.

    The last tokens of a prompt wait in `_unread` and are read by the same forward as the first tree: one forward
    less per request. The root of a tree is its first node, so it is never among them.
    """

    def __init__(self, model: CachedModel):
        self.model = model
        self._unread: list[Array] = []

    def start(self, texts: list[Array], capacity: int) -> None:
        """Begin texts ([n_b] int64 each); the last token of each is the first root."""
        self.model.open(len(texts), capacity)
        splits = [max(0, len(text) - 1 - CHUNK) for text in texts]
        append_text(self.model, [text[:split] for text, split in zip(texts, splits, strict=True)])
        self._unread = [text[split:-1] for text, split in zip(texts, splits, strict=True)]

    def score(self, tree: DraftTree) -> Tensor:
        """[B, N, V]: logits after each node, given its path."""
        counts = self._unread_counts()
        positions = (self.model.lengths + counts)[:, None] + np.maximum(tree.depths, 0)
        width, size = int(counts.max()), tree.tokens.shape[1]
        if width == 0:
            return self.model.forward(tree.tokens, positions, tree.ancestors())
        num_trees = len(counts)
        tokens = np.zeros((num_trees, width + size), dtype=np.int64)
        visible = np.zeros((num_trees, width + size, width + size), dtype=bool)
        visible[:, :width, :width] = np.tri(width, dtype=bool)
        visible[:, width:, width:] = tree.ancestors()
        for slot, text in enumerate(self._unread):
            tokens[slot, : len(text)] = text
            visible[slot, width:, : len(text)] = True
        tokens[:, width:] = tree.tokens
        text_positions = self.model.lengths[:, None] + np.arange(width)
        positions = np.concatenate((text_positions, positions), axis=1)
        return self.model.forward(tokens, positions, visible, num_logits=size)

    def commit(self, path: Array, active: Array) -> None:
        """Keep the root and the accepted `path` ([B, A] nodes, -1 behind the last) of the active requests."""
        counts = self._unread_counts()
        width = int(counts.max())
        root = np.where(active, width, -1)[:, None]
        rows = np.concatenate((root, np.where(active[:, None] & (path >= 0), path + width, -1)), axis=1)
        if width:
            # A slot's unread rows stand before the padding of the longest; -1 entries may only come last.
            unread = np.where(np.arange(width) < counts[:, None], np.arange(width), -1)
            rows = np.concatenate((unread, rows), axis=1)
            rows = np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)
            self._unread = [text[:0] for text in self._unread]
        self.model.commit(rows)

    def _unread_counts(self) -> Array:
        return np.array([len(text) for text in self._unread])
