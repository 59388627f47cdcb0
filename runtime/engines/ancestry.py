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
    """Of the first rows. A row is a whole number, of which every bit is a row that it attends to: numpy takes several
    times as long for trees of a usual size. Of a block that is padded to a prompt most rows have no parent, and are
    left out."""
    num_trees, num_rows = parents.shape
    flat = parents.ravel()
    (below,) = np.nonzero(flat >= 0)
    above = below - below % num_rows + flat[below]
    numbers, own = [1 << row for row in range(num_rows)] * num_trees, np.eye(num_rows, dtype=bool)
    seen = np.repeat(own[None], num_trees, axis=0).reshape(-1, num_rows)
    rows = below.tolist()
    for row, parent in zip(rows, above.tolist(), strict=True):
        numbers[row] |= numbers[parent]
    num_bytes = -(-num_rows // 8)
    packed = b"".join([numbers[row].to_bytes(num_bytes, "little") for row in rows])
    bits = np.frombuffer(packed, dtype=np.uint8).reshape(-1, num_bytes)
    seen[below] = np.unpackbits(bits, axis=1, count=num_rows, bitorder="little").view(bool)
    return seen.reshape(num_trees, num_rows, num_rows)
