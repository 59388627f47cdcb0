"""Trunks with sides (K, L): L drawn tokens, and beside each of them the drafter's best K - 1 others."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from .delayed import DEEPEST, LONGEST_TRUNK

MOST_SIDES = 7


class SidedTrunk(NamedTuple):
    num_children: int
    length: int

    @property
    def depth(self) -> int:
        return self.length

    @property
    def num_nodes(self) -> int:
        return self.num_children * self.length

    @property
    def level_widths(self) -> list[int]:
        return [1] * self.length

    @property
    def option(self) -> list[int]:
        return [self.num_children, self.length, 0]

    def drawing(self, level: int) -> Sequence[int]:
        return [0] * self.num_children if level < self.length else []

    def within(self, depth: int) -> Self:
        length = min(self.length, depth)
        return type(self)(self.num_children if length else 1, length)


SIDED_CHAINS = tuple(SidedTrunk(1, length) for length in range(DEEPEST + 1))
SIDED = tuple(
    SidedTrunk(1 + sides, length) for sides in range(1, MOST_SIDES + 1) for length in range(1, LONGEST_TRUNK + 1)
)
