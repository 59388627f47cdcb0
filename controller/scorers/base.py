"""The scorer: the one plug of the controller. Every tree policy is a score and a way to choose how many nodes."""

from typing import NamedTuple, Protocol

from ..context import StepContext
from ..trees.tree import Array, DraftTree


class Scores(NamedTuple):
    """A scorer's answer about a batch of trees. Log-probabilities are <= 0, -inf where a node is never taken."""

    tree: DraftTree
    accept: Array  # [B, N] that the target's text takes the node, given it runs through the parent; 0 at the root
    coverage: Array  # [B, N, W] the same of the rank-w child of each node, predicted before that child is drafted
    only_child: Array | None = None  # [B, N] `accept` as if the node had no siblings, of scorers that use it again
    predicts: bool = True  # False where `accept` only says which nodes there are to be


class Scorer(Protocol):
    """A function of tree and context alone."""

    @property
    def reads_history(self) -> bool:
        """Whether `context.history` has to be kept up to date."""
        ...

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        """Score every node. `before` is this scorer's own answer about the same trees before their last levels were
        appended: it may save work, and never changes the answer."""
        ...
