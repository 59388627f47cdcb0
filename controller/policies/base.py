"""The shape policy: which nodes to expand next, and which drafted nodes the target verifies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree


class Step(Protocol):
    """One step of a batch, from its roots to what was committed. Within a step trees only grow: each tree asked about
    holds the nodes of the ones before."""

    def frontier(self, tree: DraftTree) -> Array:
        """[B, F]: nodes of the last level to expand, best first, -1 where a tree has fewer; F = 0 ends drafting.

        Under a sampled scheme a node appears once for each child it is to get.
        """
        ...

    def keep(self, tree: DraftTree) -> Array:
        """[B, K]: nodes to verify, ascending, the root first, -1 behind each tree's last; parent-closed.

        A guest in another loop may ask this alone, of trees drafted elsewhere.
        """
        ...

    @property
    def log_values(self) -> Array | None:
        """[B, N] log-probabilities that the text runs through each node of the tree that `keep` was asked about last,
        -inf at what a threshold cuts; None of a policy that does not predict them."""
        ...

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        """The step accepted `path` [B, A] of the kept `tree`, the root left out, -1 behind each tree's last.

        `level_widths` are the nodes expanded by each drafter level.
        """
        ...


class ShapePolicy(Protocol):
    """What the decode loop asks. `Step.record` may teach a policy, so one instance serves one run of requests."""

    @property
    def information(self) -> Information:
        """What its decisions use; the contract of scheme and verifier depends on it."""
        ...

    @property
    def reads_history(self) -> bool:
        """Whether `context.history` is to be kept up to date by the step begun last."""
        ...

    @property
    def limits(self) -> TreeLimits:
        """The largest tree it drafts."""
        ...

    def begin(self, context: StepContext) -> Step:
        """The next step of the requests that `context` describes."""
        ...


def num_committed(path: Array) -> Array:
    """[B] tokens, the next one included, of steps that accepted `path` [B, A]."""
    return (path >= 0).sum(axis=1) + 1


def learn_nothing(tree: DraftTree, num_tokens: Array) -> None:
    """For a step whose outcome changes nothing."""


@dataclass(frozen=True)
class WholeTreeStep:
    """The `Step` of a policy that remembers nothing within a step and verifies every drafted node."""

    context: StepContext
    choose: Callable[[DraftTree, StepContext], Array]
    learn: Callable[[DraftTree, Array], None] = learn_nothing
    log_values = None

    def frontier(self, tree: DraftTree) -> Array:
        return self.choose(tree, self.context)

    def keep(self, tree: DraftTree) -> Array:
        return np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        self.learn(tree, num_committed(path))
