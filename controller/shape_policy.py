"""The shape policy: what the decode loop asks in every step, and tells when the step is done."""

from typing import Protocol

from .context import StepContext
from .contract import Looks
from .selector import TreeLimits
from .tree import Array, DraftTree


class ShapePolicy(Protocol):
    """A selector, or something around one."""

    @property
    def looks(self) -> Looks: ...

    @property
    def limits(self) -> TreeLimits: ...

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, F]: nodes of the last level to expand, best first, -1 where a tree has fewer; F = 0 ends drafting."""
        ...

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, K]: nodes to verify, ascending, the root first, -1 behind each tree's last; parent-closed."""
        ...

    def record(
        self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array, step_ms: float
    ) -> None:
        """The step that kept `tree` committed `num_tokens` [B] in `step_ms`; widths are of its drafter levels."""
        ...
