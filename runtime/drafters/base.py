"""The drafter: appends candidate tokens to chosen nodes, under a declared scheme."""

from collections.abc import Sequence
from typing import Protocol

from ...controller.contract import Scheme
from ...controller.trees.tree import Array, DraftTree
from ..engines.base import Session
from ..prefixes.rows import Prefix
from ..sampling import TokenSampler
from ..verification.base import DraftRows


class Drafter(Protocol):
    scheme: Scheme
    most_ahead: int
    """Nodes per tree that one expand reads at most besides those of its frontier: 0 but for a stack of drafters"""
    num_ahead: int
    """How many the last one read, of the tree where they were the most"""

    @property
    def draft_rows(self) -> DraftRows:
        """Of the current step, the log-probabilities that each node's children were sampled from; empty under the
        walk's schemes."""
        ...

    def prepare(self, num_slots: int, frontier: int) -> None:
        """Do ahead what the first levels of up to `frontier` nodes in each of up to `num_slots` slots would do."""
        ...

    def open(self) -> Sequence[Session]:
        """Empty all slots; the sessions of its models, if it has any."""
        ...

    def join(self, text: Array, capacity: int, prefix: Prefix = ...) -> None:
        """Add a sequence [n] int64 in a slot behind the others; its last token is the first root. It will take at most
        `capacity` rows of a cache, which may begin with those of its `prefix`."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """Move slot `slots[i]`, never a smaller number than i, to slot i; remove the others."""
        ...

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        """The trees of the first B slots with up to `width` children under each node of `frontier` ([B, F], -1 padded).

        Under a sampled scheme `frontier` names a node once for each child it is to get, and `width` is not used.
        The first call of a step expands the roots; later calls expand nodes of the deepest level. A stack of drafters
        may expand some of the new nodes at once, and later calls any that were not expanded.
        """
        ...

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        """The sequences continue along `path` ([B, A] nodes of the drafted tree, -1 padded), then by `next_tokens`
        [B]."""
        ...
