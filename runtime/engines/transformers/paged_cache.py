"""A key-value cache of pages, sized once: a slot has the pages that its text may need, wherever they lie.

Slots of one length would hold, beside one long text, as much for every short one. Pages also let a slot move by its
page table alone, and a captured graph find any text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ..ancestry import NO_ROWS
from .cache import RowShape
from .page_tables import PageTables, num_pages_for
from .pages import PAGE, PackedRows, kernels
from .slot_cache import SlotCache, SlotCacheLayer


class PagedCacheLayer(SlotCacheLayer):
    def view(self, keys: Tensor, values: Tensor) -> None:
        """Use this layer's part of the storage, [rows, G, D] each."""
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Store the packed rows of this forward, [1, G, M, D]; return the layer's whole storage, as a batch of one."""
        assert self.keys is not None and self.values is not None
        self._cache.store(self.keys, self.values, key_states[0], value_states[0])
        return self.keys[None], self.values[None]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self._cache.num_rows


class PagedCache(SlotCache):
    """Storage for all layers in one tensor [layers, 2, pages * PAGE, G, D], so that a commit is one copy."""

    def __init__(self, shapes: Sequence[RowShape], *, dtype: torch.dtype, device: torch.device):
        if {part for shape in shapes for part in shape} != {shapes[0].keys}:
            raise InputError("its layers store keys and values of different sizes, for which there are no pages")
        super().__init__([PagedCacheLayer(self) for _ in shapes])
        self.windows: dict[int, int] = {}  # by layer, of those that have one
        self._stored = torch.empty(0)  # [M] int64: where the rows of the running forward are stored
        self._rows: PackedRows | None = None
        self._kernels = kernels(dtype, device)
        self._layout = {"dtype": dtype, "device": device}
        self._row_shape = shapes[0].keys
        self.release()

    @torch.compiler.disable
    def update(  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator hides its type)
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Store the packed rows of this forward, [1, G, M, D]; return the layer's whole storage, as a batch of one."""
        layer = self.layers[layer_idx]
        assert isinstance(layer, PagedCacheLayer)
        return layer.update(key_states, value_states)

    @property
    def row_bytes(self) -> int:
        """Of one token in all layers."""
        return 2 * len(self.layers) * int(np.prod(self._row_shape)) * self.storage.element_size()

    @property
    def is_fused(self) -> bool:
        """Whether attention reads no more than what is attended to, without being told."""
        return self._kernels.are_fused

    @property
    def num_rows(self) -> int:
        """That texts may have, all together."""
        return self.storage.shape[2] - PAGE

    def allot(self, num_rows: int, longest: int) -> None:
        """Memory for `num_rows` rows in all, of which one slot takes `longest` at most, in whole pages; all slots are
        lost."""
        num_pages = num_pages_for(num_rows)
        self.storage = torch.zeros((len(self.layers), 2, (num_pages + 1) * PAGE, *self._row_shape), **self._layout)
        for layer, (keys, values) in zip(self.layers, self.storage, strict=True):
            assert isinstance(layer, PagedCacheLayer)
            layer.view(keys, values)
        self._pages = PageTables(num_pages, longest, self.storage.device)
        self.open()

    def release(self) -> None:
        """Free the memory."""
        self.allot(0, 0)

    def open(self, num_slots: int = 0, capacity: int = 0) -> None:
        """Begin with empty slots; stale rows remain, finite and never attended to."""
        self.lengths, self.seen = np.zeros(0, dtype=np.int64), NO_ROWS
        self._pages.clear()
        for _ in range(num_slots):
            self.join(capacity)

    def has_room(self, capacity: int) -> bool:
        """Whether to `join` one more slot for so many rows now: False while others have the room that it needs."""
        return self._pages.fits(capacity) or self._pages.is_too_long(capacity)

    def join(self, capacity: int) -> None:
        """One more empty slot, behind the others, with pages for `capacity` rows; InputError where it cannot fit."""
        assert self.num_tree_rows == 0, "sequences join between two steps"
        if not self._pages.fits(capacity):
            raise InputError(
                f"a text of {capacity} rows, its tree included, does not fit into a cache of {self.num_rows} rows, "
                f"{self._pages.num_free} of them free; ask for fewer tokens, or for a larger cache"
            )
        self._pages.join(capacity)
        self.lengths = np.append(self.lengths, 0)

    def keep(self, slots: Sequence[int]) -> None:
        """Move slot `slots[i]`, never a smaller number than i, to slot i; remove the others."""
        assert self.num_tree_rows == 0, "sequences leave between two steps"
        self._pages.keep(slots)
        self.lengths = self.lengths[list(slots)]

    @property
    def tables(self) -> Tensor:
        """[slots, pages] int32, see `PackedRows`; of the same address until the next `allot`."""
        return self._pages.there

    def begin(self, stored: Tensor, rows: PackedRows) -> None:
        """A forward of packed rows that are `stored` [M] there."""
        self._stored, self._rows = stored, rows

    def store(self, keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor) -> None:
        """The keys and values [G, M, D] that a layer has computed in this forward, in its storage."""
        self._kernels.store(keys, values, new_keys, new_values, self._stored)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, **options: Any) -> Tensor:
        """[M, H, D] for the queries [H, M, D] of a layer, see `pages.dense_attention`."""
        rows = self._rows
        assert rows is not None
        if not self.is_fused:
            rows = rows._replace(tables=rows.tables[:, : self._pages.widest])
        window = self.windows.get(layer)
        return self._kernels.attend(query, keys, values, rows, window=window, bit=self._bit(window), **options)

    def _bit(self, window: int | None) -> int:
        """Of `seen_bits`, that of layers with this window."""
        sizes = sorted(set(self.windows.values()))
        return 1 if window is None else 2 << sizes.index(window)

    def seen_bits(self, visible: Array) -> Array:
        """[B, n, m] uint8: for tree rows that are `visible`, a bit for the layers with each window, and one for those
        without. Trees are hardly ever deeper than a window."""
        sizes = set(self.windows.values())
        if not sizes:
            return visible.view(np.uint8)
        bits = visible.astype(np.uint8)
        behind = visible.sum(axis=2)[..., None] - 1 - self.depths[:, None]
        for size in sizes:
            bits |= (visible & (behind < size)).astype(np.uint8) * np.uint8(self._bit(size))
        return bits

    @property
    def flat(self) -> Tensor:
        """[layers * 2, pages * PAGE, G * D]"""
        return self.storage.flatten(3).flatten(0, 1)

    def rows_at(self, slots: Array, columns: Array) -> Array:
        return self._pages.rows_at(slots, columns)

    def add_tree_rows(self, parents: Array, first_slot: int) -> Array:
        visible = super().add_tree_rows(parents, first_slot)
        ends = self.lengths[self.slots] + self.num_tree_rows
        room = self._pages.rooms(self.slots)
        assert (ends <= room).all(), f"slots of {room} rows are asked for {ends.tolist()}"
        return visible
