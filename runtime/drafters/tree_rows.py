"""Which cache rows the nodes of a step's trees have become, and what each row attends to."""

import numpy as np

from ...controller.trees.tree import Array, DraftTree


class TreeRows:
    """The rows that a drafter's levels have added to the cache of its model since the last commit, for B trees."""

    def __init__(self, num_trees: int):
        self._rows = np.zeros((num_trees, 0), dtype=np.int64)  # [B, N] row of each expanded node, -1 elsewhere
        self._visible = np.zeros((num_trees, 0, 0), dtype=bool)  # [B, rows, rows]

    def of(self, tree: DraftTree) -> Array:
        """[B, N]: the row of each node of the grown tree, -1 where it was not expanded."""
        known = np.full(tree.tokens.shape, -1)
        if self._rows.size:
            known[:, : self._rows.shape[1]] = self._rows
        return known

    def add(self, tree: DraftTree, frontier: Array) -> tuple[Array, Array]:
        """The nodes of `frontier` ([B, F], -1 padded), of the deepest level, become the next F rows.

        Returns the rows of their parents [B, F], -1 where the parent is the root, and what the new rows see, as
        `CachedModel.forward` wants it.
        """
        num_trees, num_new = frontier.shape
        trees = np.arange(num_trees)[:, None]
        num_old = self._visible.shape[1]
        known = self.of(tree)
        parent_rows = known[trees, tree.parents[trees, np.maximum(frontier, 0)]]

        visible = np.zeros((num_trees, num_old + num_new, num_old + num_new), dtype=bool)
        visible[:, :num_old, :num_old] = self._visible
        if num_old:
            inherited = np.where((parent_rows >= 0)[:, :, None], self._visible[trees, parent_rows], False)
            visible[:, num_old:, :num_old] = inherited
        visible[:, num_old:, num_old:] = np.eye(num_new, dtype=bool)

        tree_rows, order = np.nonzero(frontier >= 0)
        known[tree_rows, frontier[tree_rows, order]] = num_old + order
        self._rows, self._visible = known, visible
        return parent_rows, visible[:, num_old:]
