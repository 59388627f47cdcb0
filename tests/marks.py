"""A paged cache whose rows bear marks instead of keys and values."""

import numpy as np
import torch
from treewright.runtime.engines.transformers.cache import RowShape
from treewright.runtime.engines.transformers.page_tables import SCRATCH
from treewright.runtime.engines.transformers.paged_cache import PagedCache
from treewright.runtime.engines.transformers.pages import PAGE

NUM_LAYERS = 2


def cache_of(num_pages, longest=10**6):
    cache = PagedCache([RowShape((2, 4), (2, 4))] * NUM_LAYERS, dtype=torch.float64, device=torch.device("cpu"))
    cache.allot(num_pages * PAGE, longest)
    return cache


def pages(cache, slot):
    return [page for page in cache.tables[slot].tolist() if page != SCRATCH]


def write(cache, parents, marks, first_slot=0):
    """Tree rows that bear `marks` [B, n] in all layers, as a forward stores them."""
    cache.add_tree_rows(parents, first_slot)
    slots = np.arange(first_slot, first_slot + len(parents))[:, None]
    ends = cache.lengths[slots] + cache.num_tree_rows - parents.shape[1] + np.arange(parents.shape[1])
    at = torch.from_numpy(cache.rows_at(slots + 0 * ends, ends))
    cache.storage[:, :, at] = torch.from_numpy(marks.astype(float))[None, None, :, :, None, None]


def append(cache, slot, marks):
    """Commit marks as plain text of one slot."""
    rows = np.arange(len(marks))[None]
    write(cache, rows - 1, np.array([marks]), slot)
    cache.commit(rows)


def stored(cache, slot):
    """Marks of the committed rows, the same in all layers, heads and entries."""
    columns = np.arange(cache.lengths[slot])
    rows = cache.storage[:, :, torch.from_numpy(cache.rows_at(np.full_like(columns, slot), columns))]
    marks = rows[0, 0, :, 0, 0]
    assert (rows == marks[None, None, :, None, None]).all()
    return marks.tolist()
