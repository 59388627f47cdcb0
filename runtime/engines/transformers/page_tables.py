"""Which pages of a cache each slot has, on the host and on the device."""

from collections.abc import Sequence

import numpy as np
import torch

from ....controller.trees.tree import Array
from ...machine.transfer import send
from .pages import PAGE

MOST_SLOTS = 256
# A page that no slot has: rows that only pad a forward are stored there.
SCRATCH = 0


class PageTables:
    """`num_pages` pages besides the scratch page; a slot has as many as `longest` rows take, at most."""

    def __init__(self, num_pages: int, longest: int, device: torch.device):
        # One slot more, of the scratch page alone, is that of padding.
        width = max(1, min(num_pages, num_pages_for(longest)))
        self._tables = np.full((MOST_SLOTS + 1, width), SCRATCH, dtype=np.int32)
        self.there = torch.full(self._tables.shape, SCRATCH, dtype=torch.int32, device=device)
        """[slots, pages] int32: the same on the device"""
        self._num_pages = num_pages
        self.clear()

    def clear(self) -> None:
        """Begin with no slot."""
        self._owned: list[list[int]] = []
        self._free = list(range(self._num_pages, SCRATCH, -1))

    @property
    def num_free(self) -> int:
        """Rows of the pages that no slot has."""
        return len(self._free) * PAGE

    @property
    def widest(self) -> int:
        """The most pages of a slot, one at least."""
        return max(map(len, self._owned), default=1)

    def rooms(self, slots: slice) -> list[int]:
        """Rows of the pages of each of these slots."""
        return [len(pages) * PAGE for pages in self._owned[slots]]

    def fits(self, num_rows: int) -> bool:
        """Whether there are pages for one more slot of so many rows."""
        most = min(len(self._free), self._tables.shape[1])
        return len(self._owned) < MOST_SLOTS and num_pages_for(num_rows) <= most

    def is_too_long(self, num_rows: int) -> bool:
        """Whether no slot can ever have so many rows."""
        return num_pages_for(num_rows) > self._tables.shape[1]

    def join(self, num_rows: int) -> None:
        """One more slot, behind the others, that fits."""
        assert self.fits(num_rows)
        slot, count = len(self._owned), num_pages_for(num_rows)
        self._owned.append([self._free.pop() for _ in range(count)])
        self._tables[slot] = SCRATCH
        self._tables[slot, :count] = self._owned[slot]
        self._send(slot)

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the pages of the others are free."""
        if list(slots) == list(range(len(self._owned))):
            return
        for slot in set(range(len(self._owned))) - set(slots):
            self._free += self._owned[slot]
        self._owned = [self._owned[slot] for slot in slots]
        self._tables[: len(slots)] = self._tables[list(slots)]
        self._send(0)

    def _send(self, first: int) -> None:
        """The tables of the slots in use, from the `first` on."""
        if len(self._owned) > first:
            used = slice(first, len(self._owned))
            send(self._tables[used], self.there[used])

    def rows_at(self, slots: Array, columns: Array) -> Array:
        """Rows of the storage, of the same shape as `slots` and `columns`."""
        return self._tables[slots, columns // PAGE].astype(np.int64) * PAGE + columns % PAGE


def num_pages_for(num_rows: int) -> int:
    return -(-num_rows // PAGE)
