"""One drafted tree as a verifier reads it: children, draws, and rows of probabilities made when asked for."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import inf

from torch import Tensor

from ...controller.trees.tree import DraftTree
from .base import DraftRows


class SampledTree:
    """Tree `slot` of a batch.

    A node's draws are the children that a scheme drew, in draw order and as often as they were drawn; its other
    children are free, however they were chosen.
    """

    def __init__(
        self, tree: DraftTree, slot: int, target_probs: Callable[[int], Tensor], draft_log_probs: Mapping[int, Tensor]
    ):
        self.num_nodes = int(tree.num_nodes[slot])
        self._target_probs = target_probs
        self._target_rows: dict[int, Tensor] = {}
        self._draft_log_probs = draft_log_probs
        self._draft_rows: dict[int, Tensor] = {}
        self._tokens: list[int] = tree.tokens[slot].tolist()
        self._parents: list[int] = tree.parents[slot].tolist()
        self._children: dict[int, list[int]] = defaultdict(list)
        for node in range(1, self.num_nodes):
            self._children[self._parents[node]].append(node)
        self._draws: dict[int, list[int]] = defaultdict(list)
        self._drawing: dict[int, list[int]] = defaultdict(list)  # the path of each draw
        self._starting: dict[int, set[int]] = defaultdict(set)
        if tree.paths is None:
            self._draws.update({node: self._children[node] for node in draft_log_probs})
            return
        started: set[int] = set()
        for level in tree.paths[slot].T.tolist():
            for path, node in enumerate(level):
                if node >= 0:
                    above = self._parents[node]
                    self._draws[above].append(node)
                    self._drawing[above].append(path)
                    if path not in started:
                        self._starting[above].add(path)
                        started.add(path)

    def token(self, node: int) -> int:
        return self._tokens[node]

    def parent(self, node: int) -> int:
        return self._parents[node]

    def children(self, node: int) -> dict[int, int]:
        """Token -> child."""
        return {self._tokens[child]: child for child in self._children[node]}

    def draws(self, node: int) -> list[int]:
        """The child of each draw, in draw order, repeats included."""
        return self._draws[node]

    def distinct_draws(self, node: int) -> list[int]:
        """The drawn children, in the order of their first draws."""
        return list(dict.fromkeys(self._draws[node]))

    def draws_of(self, node: int, paths: set[int]) -> list[tuple[int, int]]:
        """(path, child) of each draw that one of `paths` made, in draw order."""
        return [
            (path, child) for path, child in zip(self._drawing[node], self._draws[node], strict=True) if path in paths
        ]

    def starting(self, node: int) -> set[int]:
        """The paths whose first draw is under `node`: all at the root, but for those behind a trunk."""
        return self._starting[node]

    def target_probs(self, node: int) -> Tensor:
        """[V]"""
        if node not in self._target_rows:
            self._target_rows[node] = self._target_probs(node)
        return self._target_rows[node]

    def draft_probs(self, node: int, without: Sequence[int] = ()) -> Tensor:
        """[V] the distribution of a draw under `node`, given that it is none of the children `without`.

        What they leave is found from logarithms: beside them it may be too little for a probability to hold.
        """
        if without:
            rest = self._draft_log_probs[node].clone()
            for child in without:
                rest[self._tokens[child]] = -inf
            return rest.softmax(dim=-1)
        if node not in self._draft_rows:
            self._draft_rows[node] = self._draft_log_probs[node].exp()
        return self._draft_rows[node]

    def path(self, node: int) -> list[int]:
        """The nodes from the root (left out) to `node`."""
        path = []
        while node > 0:
            path.append(node)
            node = self._parents[node]
        return path[::-1]

    def land(self, joint: Tensor) -> None:
        """Continue the walk wherever `joint` ([N, V] ends of a verification) emits the token of a child; in place."""
        for node in range(self.num_nodes):  # parents come first
            for token, child in self.children(node).items():
                joint[child] += joint[node, token] * self.target_probs(child)
                joint[node, token] = 0.0


def single_tree(tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> SampledTree:
    """The only tree of a batch of one, from rows of probabilities."""
    assert len(tree.tokens) == 1, "a scheme belongs to one tree"
    return SampledTree(tree, 0, lambda node: target_rows[node], draft_rows[0] if draft_rows else {})
