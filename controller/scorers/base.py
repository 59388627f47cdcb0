"""The scorer: the one plug of the controller. Every tree policy is a score and a way to choose how many nodes."""

from typing import Protocol

from ..context import StepContext
from ..trees.tree import Array, DraftTree


class Scorer(Protocol):
    """Both answers are log-probabilities <= 0 (-inf: never), functions of tree and context alone."""

    @property
    def reads_history(self) -> bool:
        """Whether `context.history` has to be kept up to date."""
        ...

    def score(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, N]: log-probability that the target's text takes the node, given it runs through the parent."""
        ...

    def coverage(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, N, W]: the same for the rank-w child of each node, predicted before that child is drafted."""
        ...
