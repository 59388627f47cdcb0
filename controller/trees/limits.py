"""How large the trees of a policy may become."""

from dataclasses import dataclass
from typing import Self

from ..ranges import require_at_least

SIZES = ("max_depth", "width", "frontier", "budget")


@dataclass(frozen=True)
class TreeLimits:
    """The largest tree a policy may draft."""

    max_depth: int = 8  # drafter levels per step
    width: int = 4  # the drafter's children per expanded node
    frontier: int = 8  # nodes expanded per level
    budget: int = 32  # drafted nodes verified, root left out
    ngrams: bool = False  # whether the text's own n-grams draft one more child per expanded node

    def __post_init__(self) -> None:
        for name, least in (("max_depth", 1), ("width", 1), ("frontier", 1), ("budget", 0)):
            require_at_least(f"limits.{name}", getattr(self, name), least)

    @classmethod
    def dynamic(cls, depth: int, width: int, budget: int) -> Self:
        """Of EAGLE-2's trees: each level expands `width` nodes by as many children."""
        return cls(depth, width, frontier=width, budget=budget)

    @property
    def num_children(self) -> int:
        """The most children of a node."""
        return self.width + self.ngrams

    def max_leaves(self, *, sampled: bool) -> int:
        """A bound on the leaves of a kept tree. In a `sampled` scheme each of the frontier's entries adds one child,
        and the root may have several; else each of its nodes adds `num_children`."""
        if sampled:
            return max(1, min(self.budget, 1 + self.max_depth * (self.frontier - 1)))
        num_expanded = 1 + (self.max_depth - 1) * self.frontier
        return max(1, min(self.budget, 1 + num_expanded * (self.num_children - 1)))


# A tree beyond this is no tree for one step; without a limit a setting could ask for all of a machine's memory.
LARGEST = TreeLimits(max_depth=64, width=64, frontier=256, budget=4096, ngrams=True)
