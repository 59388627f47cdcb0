"""Static trees: a node's score depends on its ranks alone (Medusa, arXiv:2401.10774; Sequoia, arXiv:2402.12374)."""

from collections.abc import Sequence

import numpy as np

from ..context import StepContext
from ..trees.shapes import Path, check_paths
from ..trees.tree import Array, DraftTree
from .base import Scores


class RankScorer:
    """Scores by (depth, sibling rank): `log_probs[d, w]` is the log acceptance of rank w at depth d + 1.

    The N best nodes under such a table are the best static tree of size N. Built from explicit paths instead, it
    scores the nodes of that tree 0 and all others -inf.
    """

    reads_history = False

    def __init__(self, log_probs: Array):
        self.log_probs = np.asarray(log_probs, dtype=np.float64)  # [D, W]
        self._children: Array | None = None  # [S, W] static node below static node s at rank w; 0 is the root

    @classmethod
    def from_paths(cls, paths: Sequence[Path]) -> "RankScorer":
        """The scorer of one explicit tree; select with it under a budget of at least `len(paths)`."""
        check_paths(paths)
        numbers = {(): 0} | {path: number for number, path in enumerate(paths, start=1)}
        scorer = cls(np.zeros((max(map(len, paths)), 1 + max(map(max, paths)))))
        scorer._children = np.full((len(numbers) + 1, scorer.width), -1)  # last row: outside the tree
        for path in paths:
            scorer._children[numbers[path[:-1]], path[-1]] = numbers[path]
        return scorer

    @classmethod
    def from_rank_probs(cls, rank_probs: Sequence[float], max_depth: int) -> "RankScorer":
        """The scorer of one acceptance probability per rank that holds at every depth (Sequoia's positional vector)."""
        return cls(np.broadcast_to(np.log(rank_probs), (max_depth, len(rank_probs))))

    @property
    def max_depth(self) -> int:
        return self.log_probs.shape[0]

    @property
    def width(self) -> int:
        return self.log_probs.shape[1]

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        coverage = self._coverage(tree)
        rows = np.arange(len(tree.tokens))[:, None]
        accept = coverage[rows, np.maximum(tree.parents, 0), np.minimum(tree.ranks, self.width - 1)]
        accept = np.where(tree.ranks < self.width, accept, -np.inf)
        accept[:, 0] = 0.0
        return Scores(tree, accept, coverage, predicts=self._children is None)

    def _coverage(self, tree: DraftTree) -> Array:
        if self._children is not None:
            return np.where(self._children[self._static_nodes(tree)] >= 0, 0.0, -np.inf)
        inside = (tree.depths >= 0) & (tree.depths < self.max_depth)
        table = self.log_probs[np.where(inside, tree.depths, 0)]
        return np.where(inside[:, :, None], table, -np.inf)

    def _static_nodes(self, tree: DraftTree) -> Array:
        """[B, N]: the node of the static tree that each drafted node is, -1 outside of it."""
        assert self._children is not None
        numbers = np.where(tree.depths == 0, 0, -1)
        for depth in range(1, tree.depths.max() + 1):
            rows, nodes = np.nonzero((tree.depths == depth) & (tree.ranks < self.width))
            above = numbers[rows, tree.parents[rows, nodes]]
            numbers[rows, nodes] = self._children[above, tree.ranks[rows, nodes]]
        return numbers
