"""The key-value cache of a tree decoder: preallocated, one slot per sequence, each with its own length.

A slot holds its committed rows, then its tree rows. A commit moves the rows of the accepted path behind the committed
ones and drops the rest. Slots in use are the first ones of the storage, so that a forward reads a view of it: when a
sequence leaves, another slot's rows move to its slot, and nothing else is copied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..ancestry import NO_ROWS
from .slot_cache import SlotCache, SlotCacheLayer


class RowShape(NamedTuple):
    """Of what one layer stores of a row: heads and numbers of each."""

    keys: tuple[int, int]
    values: tuple[int, int]


def row_shapes(model: PreTrainedModel) -> list[RowShape]:
    """Of each layer, as the model itself stores a token: configurations name these sizes in many ways, or not at all.

    InputError for a model that stores something else.
    """
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.zeros((1, 1), dtype=torch.int64, device=model.device), past_key_values=cache)
    shapes = []
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None:
            keys, values = ((rows.shape[1], rows.shape[3]) for rows in (layer.keys, layer.values))
            shapes.append(RowShape(keys, values))
    if not shapes or len(shapes) < len(cache.layers):
        raise InputError(
            f"the model ({model.config.model_type}) does not store its text as keys and values, as trees need"
        )
    return shapes


class TreeCacheLayer(SlotCacheLayer):
    """A layer that stores rows of a `shape`."""

    def __init__(self, cache: "TreeCache", shape: RowShape):
        super().__init__(cache)
        self._shape = shape

    def view(self, keys: Tensor, values: Tensor) -> None:
        """Use this layer's part of the storage, [slots, capacity, H, D] each, or as much of it as it needs."""
        (key_heads, key_size), (value_heads, value_size) = self._shape
        self.keys, self.values = keys[:, :, :key_heads, :key_size], values[:, :, :value_heads, :value_size]

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Store the rows of this forward ([B, H, n, D], or [1, H, M, D] packed) behind the tree rows; return all that
        are in use."""
        assert self.keys is not None and self.values is not None
        slots, write, end = self._cache.slots, self._cache.write, self._cache.end
        self.keys[write] = key_states.transpose(1, 2)
        self.values[write] = value_states.transpose(1, 2)
        return self.keys[slots, :end].transpose(1, 2), self.values[slots, :end].transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.end, 0

    def get_seq_length(self) -> int:
        return self._cache.end

    def get_max_length(self) -> int:
        return self._cache.capacity


class TreeCache(SlotCache):
    """Storage for all layers in one tensor [layers, 2, slots, capacity, H, D], so that a commit is one copy.

    H and D are the most of any layer.
    """

    def __init__(self, shapes: Sequence[RowShape], *, dtype: torch.dtype, device: torch.device):
        super().__init__([TreeCacheLayer(self, shape) for shape in shapes])
        # Of the running forward: rows in use by the longest slot, and slots and columns where rows are stored.
        self.end = 0
        self.write: tuple[slice, slice] | tuple[Tensor, Tensor] = (self.slots, self.slots)
        num_heads, head_size = (max(sizes) for sizes in zip(*(part for shape in shapes for part in shape), strict=True))
        self._empty = torch.zeros((len(shapes), 2, 0, 0, num_heads, head_size), dtype=dtype, device=device)
        self._store(self._empty)

    @property
    def capacity(self) -> int:
        return self.storage.shape[3]

    def open(self, num_slots: int, capacity: int) -> None:
        """Begin with empty slots; stale rows remain, finite and never attended to."""
        self.lengths = np.zeros(0, dtype=np.int64)
        self.reserve(num_slots, capacity)
        self.lengths = np.zeros(num_slots, dtype=np.int64)
        self.seen = NO_ROWS

    def release(self) -> None:
        """Begin with no slot and no storage."""
        self.open(0, 0)
        self._store(self._empty)

    def join(self, capacity: int) -> None:
        """One more empty slot, behind the others; all have room for `capacity` rows at least."""
        assert self.num_tree_rows == 0, "sequences join between two steps"
        self.reserve(len(self.lengths) + 1, capacity)
        self.lengths = np.append(self.lengths, 0)

    def keep(self, slots: Sequence[int]) -> None:
        """Move slot `slots[i]`, never a smaller number than i, to slot i; remove the others."""
        assert self.num_tree_rows == 0, "sequences leave between two steps"
        for slot, source in enumerate(slots):
            assert source >= slot, "a slot that is still to move would be overwritten"
            if source != slot:
                rows = slice(0, int(self.lengths[source]))
                self.storage[:, :, slot, rows] = self.storage[:, :, source, rows]
        self.lengths = self.lengths[list(slots)]

    def open_rows(self, parents: Array, first_slot: int, packed: Array | None = None) -> Array:
        """As `add_tree_rows`, with room for these rows in the next forward, to which only those in `packed` ([B, n]
        bool) come, if that is given."""
        num_slots, num_rows = parents.shape
        visible = self.add_tree_rows(parents, first_slot)
        starts = self.lengths[self.slots] + self.num_tree_rows - num_rows
        self.end = int(starts.max()) + num_rows
        assert self.end <= self.capacity, f"cache of {self.capacity} rows is asked for {self.end}"
        if packed is None and (starts == starts[0]).all():
            self.write = (self.slots, slice(int(starts[0]), int(starts[0]) + num_rows))
        else:
            every = (np.arange(num_slots)[:, None], np.arange(num_rows))
            slots, rows = every if packed is None else np.nonzero(packed)
            device = self.storage.device
            self.write = (to_device(first_slot + slots, device), to_device(starts[slots] + rows, device))
        return visible

    @property
    def flat(self) -> Tensor:
        """[layers * 2, slots * capacity, H * D]"""
        return self.storage.flatten(4).flatten(2, 3).flatten(0, 1)

    def rows_at(self, slots: Array, columns: Array) -> Array:
        return slots * self.capacity + columns

    def reserve(self, num_slots: int, capacity: int) -> None:
        """Room for so many slots and rows; rows in use are kept. It grows by doubling, so that it seldom grows."""
        old = self.storage
        if num_slots <= old.shape[2] and capacity <= self.capacity:
            return
        slots, rows = (
            needed if had == 0 else max(had, 2 * had if needed > had else had, needed)
            for needed, had in ((num_slots, old.shape[2]), (capacity, self.capacity))
        )
        with torch.inference_mode(False):  # an inference tensor could not be written to elsewhere
            wider = old.new_zeros((*old.shape[:2], slots, rows, *old.shape[4:]))
        used, longest = len(self.lengths), int(self.lengths.max(initial=0))
        wider[:, :, :used, :longest] = old[:, :, :used, :longest]
        self._store(wider)

    def _store(self, storage: Tensor) -> None:
        self.storage = storage
        for layer, (keys, values) in zip(self.layers, storage, strict=True):
            assert isinstance(layer, TreeCacheLayer)
            layer.view(keys, values)
