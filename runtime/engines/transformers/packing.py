"""A block of rows without its padding, packed into one sequence.

All of a model but attention works row by row. Attention works on groups of slots, so that a prompt read together with
trees does not pad them to its length.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import FEW
from .windows import Masks


class Packing(NamedTuple):
    """The M rows of a block [B, n] that are no padding, as one row of M tokens."""

    real: Array  # [B, n] bool, false at padding
    indices: Tensor  # [M] int64, in the flattened block

    @classmethod
    def of(cls, real: Array, device: torch.device) -> Self:
        return cls(real, to_device(np.nonzero(real.ravel())[0], device))

    def pack(self, block: Tensor) -> Tensor:
        """[1, M, ...] of a block [B, n, ...]."""
        rows = block.flatten(0, 1)
        return (rows if len(rows) == len(self.indices) else rows.index_select(0, self.indices))[None]

    def unpack(self, packed: Tensor) -> Tensor:
        """[B, n, ...] of packed rows [1, M, ...], 0 at padding."""
        rows = packed[0]
        if len(rows) < self.real.size:
            rows = rows.new_zeros((self.real.size, *rows.shape[1:])).index_copy_(0, self.indices, rows)
        return rows.unflatten(0, self.real.shape)

    def last(self, count: int) -> tuple[Tensor, "Packing"]:
        """Indices of the packed rows among each slot's last `count` block rows, and their packing."""
        num_rows, device = self.real.shape[1], self.indices.device
        is_last = np.nonzero(self.real)[1] >= num_rows - count
        return to_device(np.nonzero(is_last)[0], device), Packing.of(self.real[:, num_rows - count :], device)


class Group(NamedTuple):
    """Neighbouring slots that attend together, and their masks."""

    slots: slice  # of the block
    packed: slice  # of the packed rows
    packing: Packing  # of these slots and of the columns in which any of their rows is real
    masks: Masks  # [b, 1, columns, rows of the cache] each


def parts(real: Array) -> Iterator[tuple[slice, slice]]:
    """Slots and columns of the groups of a block [B, n]: a slot of many rows is a group of its own."""
    counts = real.sum(axis=1)
    is_wide = counts > FEW
    edges = np.nonzero(is_wide[1:] | is_wide[:-1])[0] + 1
    for slots in map(slice, [0, *edges], [*edges, len(real)]):
        columns = np.nonzero(real[slots].any(axis=0))[0]
        if len(columns):
            yield slots, slice(int(columns[0]), int(columns[-1]) + 1)


def groups_of(real: Array, device: torch.device, masks: Callable[[slice, slice], Masks]) -> list[Group]:
    """The groups of a block [B, n]; `masks` are those of some slots and columns."""
    groups, num_packed = [], 0
    for slots, columns in parts(real):
        packing = Packing.of(real[slots, columns], device)
        packed = slice(num_packed, num_packed + len(packing.indices))
        groups.append(Group(slots, packed, packing, masks(slots, columns)))
        num_packed = packed.stop
    return groups
