"""Which cache rows the nodes of a step's trees have become."""

import numpy as np

from ...controller.trees.tree import Array, DraftTree


class TreeRows:
    """The rows that a drafter's levels have added to the cache of its model since the last commit, for B trees."""

    def __init__(self, num_trees: int):
        self._rows = np.zeros((num_trees, 0), dtype=np.int64)  # [B, N] row of each expanded node, -1 elsewhere
        self._num_rows = 0  # per tree

    def of(self, tree: DraftTree) -> Array:
        """[B, N]: the row of each node of the grown tree, -1 where it was not expanded."""
        known = np.full(tree.tokens.shape, -1)
        if self._rows.size:
            known[:, : self._rows.shape[1]] = self._rows
        return known

    def add(self, tree: DraftTree, frontier: Array) -> Array:
        """The nodes of `frontier` ([B, F], -1 padded), of the deepest level, become the next F rows.

        Returns the rows of their parents [B, F], -1 where the parent is the root or there is no node.
        """
        known, trees = self.of(tree), np.arange(len(frontier))[:, None]
        parents = tree.parents[trees, np.maximum(frontier, 0)]
        parent_rows = np.where(parents > 0, known[trees, parents], -1)
        tree_rows, order = np.nonzero(frontier >= 0)
        known[tree_rows, frontier[tree_rows, order]] = self._num_rows + order
        self._rows, self._num_rows = known, self._num_rows + frontier.shape[1]
        return parent_rows
