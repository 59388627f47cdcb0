"""Delayed trees (K, L1, L2): a trunk of L1 tokens, then K branches of L2 tokens (arXiv:2602.16994).

The 324 triples with K from 1 to 4 and lengths up to 8 are 233 distinct trees: without branches, or with one, a tree is
a chain. Every tree is named once: 17 chains, the empty one first, then the 216 trees that branch.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

MOST_PATHS = 4
LONGEST_TRUNK = LONGEST_BRANCH = 8
DEEPEST = LONGEST_TRUNK + LONGEST_BRANCH


class DelayedShape(NamedTuple):
    num_paths: int
    trunk_length: int
    branch_length: int

    @classmethod
    def distinct(cls, num_paths: int, trunk_length: int, branch_length: int) -> Self:
        """The tree by its one name."""
        if num_paths == 1 or branch_length == 0:
            return cls(1, trunk_length + branch_length, 0)
        return cls(num_paths, trunk_length, branch_length)

    @property
    def depth(self) -> int:
        return self.trunk_length + self.branch_length

    @property
    def num_nodes(self) -> int:
        return self.trunk_length + self.num_paths * self.branch_length

    @property
    def level_widths(self) -> list[int]:
        return [1] * min(self.trunk_length + 1, self.depth) + [self.num_paths] * max(0, self.branch_length - 1)

    @property
    def option(self) -> list[int]:
        return [*self]

    def drawing(self, level: int) -> Sequence[int]:
        if level == self.trunk_length < self.depth:
            return [0] * self.num_paths
        paths = 0 if level >= self.depth else 1 if level < self.trunk_length else self.num_paths
        return range(paths)

    def within(self, depth: int) -> Self:
        trunk = min(self.trunk_length, depth)
        return self.distinct(self.num_paths, trunk, min(self.branch_length, depth - trunk))


CHAINS = tuple(DelayedShape(1, length, 0) for length in range(DEEPEST + 1))
BRANCHED = tuple(
    DelayedShape(paths, trunk, branch)
    for paths in range(2, MOST_PATHS + 1)
    for trunk in range(LONGEST_TRUNK + 1)
    for branch in range(1, LONGEST_BRANCH + 1)
)
