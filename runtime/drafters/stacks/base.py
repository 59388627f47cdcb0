"""The lower stage of a stack: it guesses what a drafter model would go on with."""

from collections.abc import Sequence
from typing import Protocol

from ....controller.trees.tree import Array, DraftTree
from ...engines.base import Session
from ...prefixes.rows import Prefix
from ...sampling import TokenSampler


class Stage(Protocol):
    most: int
    """The most nodes that it guesses at once, per tree"""

    def prepare(self, num_slots: int) -> None:
        """Do ahead what the first guesses for up to `num_slots` slots would do."""
        ...

    def open(self) -> Sequence[Session]:
        """Empty all slots; the sessions of its models, if it has any."""
        ...

    def join(self, text: Array, capacity: int, prefix: Prefix = ...) -> None:
        """See `Drafter.join`."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """See `Drafter.keep`."""
        ...

    def guess(self, tree: DraftTree, frontier: Array, deepest: Array, sampler: TokenSampler) -> DraftTree:
        """The trees with guessed nodes appended below those of `frontier` [B, F], none beyond a depth of `deepest` [B]
        and none for a tree without a frontier. The numbers of those nodes mean nothing."""
        ...

    def follow(self, texts: Sequence[Array]) -> None:
        """The first B texts go on by these tokens, [n] each. A step of theirs ends."""
        ...
