"""Which tree rows each tree row attends to, from the rows' parents: what an engine makes its mask of."""

import numpy as np

from ...controller.trees.tree import Array

NO_ROWS = np.zeros((0, 0, 0), dtype=bool)


def extended(seen: Array, parents: Array) -> Array:
    """[B, m + n, m + n] bool: which rows are ancestors of each row or the row itself.

    seen: the same of the m rows before, or `NO_ROWS`. parents: [B, n] as in `CachedModel.forward`.
    """
    (num_trees, num_new), num_old = parents.shape, seen.shape[1]
    if num_old == 0:
        return _first(parents)
    num_rows = num_old + num_new
    wider = np.zeros((num_trees, num_rows + 1, num_rows), dtype=bool)  # parent -1 is the last row, without ancestors
    wider[:, np.arange(num_rows), np.arange(num_rows)] = True
    wider[:, :num_old, :num_old] = seen
    trees = np.arange(num_trees)[:, None]
    # Ancestors up to 1, 2, 4, ... levels above; those of a drafted level are all among the rows before.
    above = parents
    while (above >= 0).any():
        wider[:, num_old:num_rows] |= wider[trees, above]
        if above.max() < num_old:
            break
        above = np.where(above >= num_old, above[trees, np.maximum(above - num_old, 0)], -1)
    return wider[:, :num_rows]


def _first(parents: Array) -> Array:
    """Of the first rows. Each row is a whole number, of which every bit is a row that it attends to: numpy takes
    several times as long for trees of a usual size."""
    num_rows = parents.shape[1]
    num_bytes = -(-num_rows // 8)
    rows: list[bytes] = []
    for of_tree in parents.tolist():
        seen: list[int] = []
        for row, parent in enumerate(of_tree):
            seen.append(1 << row | (seen[parent] if parent >= 0 else 0))
        rows += [each.to_bytes(num_bytes, "little") for each in seen]
    bits = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(*parents.shape, num_bytes)
    return np.unpackbits(bits, axis=2, count=num_rows, bitorder="little").view(bool)
