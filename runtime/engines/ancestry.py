"""Which tree rows each tree row attends to, from the rows' parents: what an engine makes its mask of."""

import numpy as np

from ...controller.trees.tree import Array

NO_ROWS = np.zeros((0, 0, 0), dtype=bool)


def extended(seen: Array, parents: Array) -> Array:
    """[B, m + n, m + n] bool: which rows are ancestors of each row or the row itself.

    seen: the same of the m rows before, or `NO_ROWS`. parents: [B, n] as in `CachedModel.forward`.
    """
    (num_trees, num_new), num_old = parents.shape, seen.shape[1]
    num_rows = num_old + num_new
    wider = np.zeros((num_trees, num_rows + 1, num_rows), dtype=bool)  # parent -1 is the last row, without ancestors
    wider[:, np.arange(num_rows), np.arange(num_rows)] = True
    if num_old:
        wider[:, :num_old, :num_old] = seen
    trees = np.arange(num_trees)[:, None]
    # Ancestors up to 1, 2, 4, ... levels above: a chain of 256 rows takes 8 rounds.
    above = parents
    while (above >= 0).any():
        wider[:, num_old:num_rows] |= wider[trees, above]
        above = np.where(above >= num_old, above[trees, np.maximum(above - num_old, 0)], -1)
    return wider[:, :num_rows]
