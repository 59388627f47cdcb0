"""The shape policy: where to draft next and what to verify."""

from typing import Protocol

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree


class ShapePolicy(Protocol):
    """What the decode loop asks. `record` may teach a policy, so one instance serves one run of requests."""

    @property
    def information(self) -> Information:
        """What its decisions look at; the contract of scheme and verifier depends on it."""
        ...

    @property
    def reads_history(self) -> bool:
        """Whether `context.history` has to be kept up to date."""
        ...

    @property
    def limits(self) -> TreeLimits:
        """The largest tree it drafts."""
        ...

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, F]: nodes of the last level to expand, best first, -1 where a tree has fewer; F = 0 ends drafting.

        Under a sampled scheme a node stands here once for each child it is to get.
        """
        ...

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, K]: nodes to verify, ascending, the root first, -1 behind each tree's last; parent-closed."""
        ...

    def record(self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array) -> None:
        """The step with the kept `tree` committed `num_tokens` [B] (accepted length + 1) per request.

        `level_widths` are the nodes expanded by each drafter level.
        """
        ...


def keep_all(tree: DraftTree) -> Array:
    """[B, N]: every drafted node."""
    return np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)
