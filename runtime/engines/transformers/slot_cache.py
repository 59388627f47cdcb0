"""What caches of slots have in common: the rows of each slot, committed ones and those of a tree behind them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..ancestry import NO_ROWS, extended


class SlotCacheLayer(CacheLayerMixin):
    """One layer's view of a cache's storage, in the form transformers' attention layers expect."""

    is_sliding = False

    def __init__(self, cache: Any):
        super().__init__()
        self.is_initialized = True
        self._cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass  # the storage exists from the start


class SlotCache(Cache):
    """Counts rows; where they lie in the storage is left to the kind of cache."""

    def __init__(self, layers: Sequence[SlotCacheLayer]):
        self.lengths = np.zeros(0, dtype=np.int64)  # committed rows per slot in use
        self.slots = slice(0, 0)  # of the forward that runs, or of those since the last commit
        self.seen = NO_ROWS  # [B, m, m] of the m rows behind the committed ones of each slot, see `ancestry`
        super().__init__(layers=[*layers])

    @property
    def num_tree_rows(self) -> int:
        """Rows behind the committed ones, the same number for each slot."""
        return self.seen.shape[1]

    @property
    def depths(self) -> Array:
        """[B, m] int64 of the tree rows, 0 behind the committed ones."""
        return self.seen.sum(axis=2) - 1

    def add_tree_rows(self, parents: Array, first_slot: int) -> Array:
        """Count n more rows with these `parents` [B, n] in each slot from `first_slot` on; [B, n, m + n] bool: which
        tree rows they attend to."""
        num_slots, num_rows = parents.shape
        self.slots = slice(first_slot, first_slot + num_slots)
        self.seen = extended(self.seen, parents)
        return self.seen[:, -num_rows:]

    def commit(self, rows: Array) -> None:
        """Commit tree rows `rows` ([B, A], ascending, -1 behind each slot's last) of the slots of the last forwards;
        drop the others."""
        self.seen = NO_ROWS
        counts = (rows >= 0).sum(axis=1)
        if not counts.any():  # there may have been no forward of these slots
            return
        slots = np.arange(self.slots.start, self.slots.start + len(rows))
        texts, moved = np.nonzero((rows >= 0) & (rows != np.arange(rows.shape[1])))
        if len(texts):
            starts = self.lengths[slots[texts]]
            self.move(slots[texts], np.stack((starts + rows[texts, moved], starts + moved)))
        self.lengths[slots] += counts

    def move(self, slots: Array, columns: Array) -> None:
        """Copy, in each of `slots` [k], from one column to another, `columns` [2, k]."""
        _copy(self.flat, self.flat, self.rows_at(slots, columns))

    def new_rows(self, num_rows: int) -> Tensor:
        """See `SlotRows`."""
        num_parts, _, size = self.flat.shape
        return self.flat.new_empty((num_parts, num_rows, size))

    def copy_out(self, slot: int, rows: Array, into: Tensor, at: Array) -> None:
        """See `SlotRows`."""
        assert self.num_tree_rows == 0, "rows are copied between two steps"
        _copy(self.flat, into, np.stack((self.rows_at(np.full_like(rows, slot), rows), at)))

    def copy_in(self, slot: int, memory: Tensor, at: Array) -> None:
        """See `SlotRows`."""
        assert self.num_tree_rows == 0, "rows are copied between two steps"
        columns = self.lengths[slot] + np.arange(len(at))
        _copy(memory, self.flat, np.stack((at, self.rows_at(np.full_like(columns, slot), columns))))
        self.lengths[slot] += len(at)

    @property
    def flat(self) -> Tensor:
        """[parts, rows, numbers]: the storage, where a row of any slot is one row."""
        raise NotImplementedError

    def rows_at(self, slots: Array, columns: Array) -> Array:
        """Rows of the storage, of the shape of `slots` and `columns`."""
        raise NotImplementedError


def _copy(source: Tensor, into: Tensor, places: Array) -> None:
    """From one place to another, `places` [2, k], of all parts."""
    old, new = to_device(places, into.device)
    into.index_copy_(1, new, source.index_select(1, old))
