"""The shape policy: where to draft next and what to verify. A plan is a policy with its settings fixed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..context import StepContext
from ..contract import WALK, Looks
from ..selector import TreeLimits
from ..tree import Array, DraftTree
from .settings import Settings


class ShapePolicy(Protocol):
    """What the decode loop asks. `record` may teach a policy, so one instance serves one run of requests."""

    @property
    def looks(self) -> Looks:
        """What its decisions look at; the contract of law and verifier depends on it."""
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

        Under a sampled law a node stands here once for each child it is to get.
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


@dataclass(frozen=True)
class PolicyPlan:
    """A policy with its settings fixed; `build` makes a fresh one, so that nothing learnt leaks between runs."""

    family: str
    law: str
    settings: Settings
    build: Callable[[], ShapePolicy]
    verifier: str = WALK.name

    @property
    def text(self) -> str:
        """The settings as a table shows them."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())


def chain_limits(depth: int) -> TreeLimits:
    """The envelope of a chain of up to `depth` tokens."""
    return TreeLimits(max_depth=depth, width=1, frontier=1, budget=depth)


def chain_frontier(tree: DraftTree, context: StepContext, max_depths: Array) -> Array:
    """[B, 1]: the last node of each chain that may grow to `max_depths` [B] and was not ended before; else [B, 0]."""
    level, last = int(tree.depths.max()), tree.num_nodes - 1
    growing = (last == level) & (level < np.minimum(max_depths, context.max_depths))
    return np.where(growing, last, -1)[:, None][:, : int(growing.any())]


def keep_all(tree: DraftTree) -> Array:
    """[B, N]: every drafted node."""
    return np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)
