"""Menus of trees that are settled before anything is drawn: delayed trees, chains, and trunks with sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from .delayed import BRANCHED, CHAINS, DEEPEST
from .sided import SIDED, SIDED_CHAINS
from .tree import Array


class SettledShape(Protocol):
    @property
    def depth(self) -> int: ...

    @property
    def num_nodes(self) -> int:
        """Drafted nodes, before equal draws are merged."""
        ...

    @property
    def level_widths(self) -> list[int]:
        """Nodes expanded by each drafter level, before equal draws are merged."""
        ...

    @property
    def option(self) -> list[int]:
        """[K, L1, L2], as `speculation.sampled` takes them."""
        ...

    def drawing(self, level: int) -> Sequence[int]:
        """Of nodes of this depth, the path that each of their children continues."""
        ...

    def within(self, depth: int) -> Self:
        """The part of the tree down to `depth`, by the name it has on its menu."""
        ...


@dataclass(frozen=True, eq=False)
class Menu:
    """Distinct shapes, no deeper than DEEPEST; the first 17 are the chains by length."""

    shapes: tuple[SettledShape, ...]

    @cached_property
    def places(self) -> dict[SettledShape, int]:
        return {shape: place for place, shape in enumerate(self.shapes)}

    @cached_property
    def cuts(self) -> Array:
        """[DEEPEST + 1, shapes] int64: the place of what is left of each shape within each depth."""
        cuts = np.array([[self.places[shape.within(depth)] for shape in self.shapes] for depth in range(DEEPEST + 1)])
        cuts.setflags(write=False)
        return cuts

    @property
    def own(self) -> tuple[SettledShape, ...]:
        """Those that are no chains."""
        return self.shapes[len(CHAINS) :]


CHAIN_MENU, DELAYED_MENU, SIDED_MENU = Menu(CHAINS), Menu(CHAINS + BRANCHED), Menu(SIDED_CHAINS + SIDED)
