"""Engines whose cache rows can be kept outside of the slots: each row is a function of the text up to its token."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from ...controller.trees.tree import Array
from .base import CachedModel


class SlotRows(Protocol):
    """The committed rows of a model's slots, between two steps."""

    def new_rows(self, num_rows: int) -> Tensor:
        """[parts, num_rows, numbers]: memory for so many rows."""
        ...

    def copy_out(self, slot: int, rows: Array, into: Tensor, at: Array) -> None:
        """Copy `rows` [n] of a slot to the places `at` [n] of such a memory."""
        ...

    def copy_in(self, slot: int, memory: Tensor, at: Array) -> None:
        """Commit n more rows of a slot, those `at` [n] of such a memory."""
        ...


@runtime_checkable
class CopyingModel(CachedModel, Protocol):
    @property
    def cache(self) -> SlotRows: ...
