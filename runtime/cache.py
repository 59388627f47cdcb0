"""The key-value cache of a tree decoder: preallocated, one slot per request, each with its own length.

A slot holds its committed rows first; the rows of the tree under verification follow. Committing a path moves its
few rows up behind the committed ones and forgets the rest: nothing else is ever copied.
"""

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ..controller.tree import Array


class TreeCacheLayer(CacheLayerMixin):
    """One layer's view of the shared storage, in the form transformers' attention layers expect."""

    is_sliding = False

    def __init__(self, cache: "TreeCache", keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values = keys, values  # [B, H, capacity, D]
        self.is_initialized = True
        self._cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass  # the storage exists from the start

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Store the rows of this forward ([B, H, n, D]) behind the tree rows and return all rows in use."""
        assert self.keys is not None and self.values is not None
        write = self._cache.write
        if isinstance(write, slice):
            self.keys[:, :, write] = key_states
            self.values[:, :, write] = value_states
        else:
            self.keys[write[0], :, write[1]] = key_states.transpose(1, 2)
            self.values[write[0], :, write[1]] = value_states.transpose(1, 2)
        end = self._cache.end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.end, 0

    def get_seq_length(self) -> int:
        return self._cache.end

    def get_max_length(self) -> int:
        return self._cache.capacity


class TreeCache(Cache):
    """Storage for all layers in one tensor [layers, 2, B, H, capacity, D], so that a commit is one copy."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_slots: int,
        num_heads: int,
        capacity: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        shape = (num_layers, 2, num_slots, num_heads, capacity, head_size)
        self.storage = torch.zeros(shape, dtype=dtype, device=device)
        self.num_slots = num_slots
        self.capacity = capacity
        self.lengths = np.zeros(num_slots, dtype=np.int64)  # committed rows per slot
        self.num_tree_rows = 0  # rows behind them, the same count for every slot
        self.end = 0  # rows in use by the longest slot
        self.write: slice | tuple[Tensor, Tensor] = slice(0, 0)  # where the running forward stores its rows
        super().__init__(layers=[TreeCacheLayer(self, keys, values) for keys, values in self.storage])

    def clear(self) -> None:
        """Empty all slots; stale rows stay behind, finite and never attended to."""
        self.lengths = np.zeros(self.num_slots, dtype=np.int64)
        self.num_tree_rows = self.end = 0

    def open_rows(self, num_rows: int) -> None:
        """Make room for the `num_rows` rows per slot of the next forward."""
        starts = self.lengths + self.num_tree_rows
        self.end = int(starts.max()) + num_rows
        assert self.end <= self.capacity, f"cache of {self.capacity} rows is asked for {self.end}"
        if (starts == starts[0]).all():
            self.write = slice(int(starts[0]), int(starts[0]) + num_rows)
        else:
            columns = torch.from_numpy(starts[:, None] + np.arange(num_rows)).to(self.storage.device)
            self.write = (torch.arange(len(starts), device=self.storage.device)[:, None], columns)
        self.num_tree_rows += num_rows

    def commit(self, rows: Array) -> None:
        """Keep tree rows `rows` ([B, A], ascending, -1 behind each slot's last) as committed; drop the others."""
        counts = (rows >= 0).sum(axis=1)
        for slot in np.nonzero(counts)[0]:
            kept = rows[slot, : counts[slot]]
            moved = int((kept == np.arange(len(kept))).argmin()) if kept[-1] != len(kept) - 1 else len(kept)
            if moved < len(kept):
                start = int(self.lengths[slot])
                source = torch.from_numpy(start + kept[moved:]).to(self.storage.device)
                view = self.storage[:, :, slot]
                view[:, :, :, start + moved : start + len(kept)] = view.index_select(3, source)
        self.lengths += counts
        self.num_tree_rows = 0
