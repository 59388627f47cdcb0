"""The drafter: hangs candidate tokens under chosen nodes, under a declared scheme."""

from collections.abc import Sequence
from typing import Protocol

from ...controller.contract import Scheme
from ...controller.trees.tree import Array, DraftTree
from ..engines.base import Session
from ..sampling import TokenSampler
from ..verification.base import DraftRows


class Drafter(Protocol):
    scheme: Scheme

    @property
    def draft_rows(self) -> DraftRows:
        """Of the step under way, the log-probabilities that each node's children were drawn from; nothing under the
        walk's schemes."""
        ...

    def open(self) -> Session | None:
        """Forget all texts; the session of its model, if it has one."""
        ...

    def join(self, text: Array, capacity: int) -> None:
        """One more text [n] int64, in a slot behind the others; its last token is the first root. It will take at most
        `capacity` rows of a cache."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]`, never a smaller number, was; the others leave."""
        ...

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        """The trees of the first B slots with up to `width` children under each node of `frontier` ([B, F], -1 padded).

        Under a sampled scheme a node stands in `frontier` once for each child it is to get, and `width` says nothing.
        The first call of a step expands the roots; later calls expand nodes of the deepest level.
        """
        ...

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        """The texts went along `path` ([B, A] nodes of the drafted tree, -1 padded), then to `next_tokens` [B]."""
        ...
