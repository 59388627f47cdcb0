"""What a drafter model reads in one step: rows of its cache, which no commit settles before the step ends."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ....controller.trees.tree import Array, DraftTree
from ...engines.base import CachedModel, Session, chain, ending_together


class StepRows:
    """The rows of a step's trees and of the tokens before their roots, which the first forward reads with them."""

    def __init__(self, session: Session, before: Sequence[Array]):
        """`before` [n] each: what the model has not read of the texts, the roots left out."""
        self._session = session
        self._before = before
        self.root_positions = self._model.lengths[: len(before)] + np.array([len(text) for text in before])  # [B]
        self.of_nodes: Array = np.full(
            (len(before), 1), -1
        )  # [B, N] row of each node of the tree, -1 where it was not read
        self._num_rows = 0  # per tree

    @property
    def _model(self) -> CachedModel:
        return self._session.model

    def read(self, tree: DraftTree, nodes: Array) -> Tensor:
        """[B, F, V] after `nodes` [B, F] of the trees, -1 where one has fewer; parents come first, and the first call
        is for roots and what is below them."""
        trees, real, at = np.arange(len(nodes))[:, None], nodes >= 0, np.maximum(nodes, 0)
        width = 0 if self._num_rows else max(map(len, self._before))
        rows = np.full(tree.tokens.shape, -1)
        rows[:, : self.of_nodes.shape[1]] = self.of_nodes
        places, order = np.nonzero(real)
        rows[places, nodes[places, order]] = self._num_rows + width + order
        above = tree.parents[trees, at]
        parents = np.where(real & (above >= 0), rows[trees, above], -1)
        tokens, positions = tree.tokens[trees, at], self.root_positions[:, None] + tree.depths[trees, at]
        if width:
            before, is_before = ending_together(self._before)
            parents[:, 0] = np.where(is_before[:, -1], width - 1, -1)  # of the roots
            behind = is_before.cumsum(axis=1) - is_before.sum(axis=1, keepdims=True) - 1
            tokens = np.concatenate((before, tokens), axis=1)
            positions = np.concatenate((self.root_positions[:, None] + behind, positions), axis=1)
            parents = np.concatenate((chain(is_before), parents), axis=1)
            real = np.concatenate((is_before, real), axis=1)
        logits = self._model.forward(tokens, positions, parents, num_logits=nodes.shape[1], real=real)
        self.of_nodes, self._num_rows = rows, self._num_rows + tokens.shape[1]
        return logits

    def renumber(self, became: Array, size: int) -> None:
        """The trees are others now, of `size` nodes: node i is node `became[b, i]` [B, N] of tree b, -1 where it is
        none of them."""
        rows = np.full((len(became), size), -1)
        trees, nodes = np.nonzero(became >= 0)
        rows[trees, became[trees, nodes]] = self.of_nodes[trees, nodes]
        self.of_nodes = rows

    def commit(self, path: Array) -> Array:
        """Keep what has become text: the tokens before the roots, the roots, and `path` [B, A], -1 behind each tree's
        last. [B]: how many nodes of it have a row."""
        path_rows = np.where(path >= 0, self.of_nodes[np.arange(len(path))[:, None], path], -1)
        _, is_before = ending_together(self._before)
        before = np.where(is_before, np.arange(is_before.shape[1]), -1)
        rows = np.concatenate((before, self.of_nodes[:, :1], path_rows), axis=1)
        # -1 entries may only come last.
        self._model.commit(np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1))
        return (path_rows >= 0).sum(axis=1)
