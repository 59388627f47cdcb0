"""Random drafted trees, and a scorer that reads a table."""

import numpy as np
from treewright.controller.context import StepContext
from treewright.controller.learned.history import START
from treewright.controller.scorers.base import Scores
from treewright.controller.trees.children import Children
from treewright.controller.trees.tree import DraftTree


def random_children(generator, batch, frontier, width=3, cut=0):
    """Random candidates; the last `cut` of each node are cut by sampling, or up to so many where it is negative."""
    log_probs = np.sort(-generator.exponential(size=(batch, frontier, width)), axis=2)[:, :, ::-1].astype(np.float32)
    noisy = log_probs.copy()
    counts = width - (cut if cut >= 0 else generator.integers(1 - cut, size=(batch, frontier, 1)))
    noisy[np.broadcast_to(np.arange(width) >= counts, noisy.shape)] = -np.inf
    tokens = generator.integers(100, size=(batch, frontier, width))
    return Children(tokens, log_probs, noisy, log_probs[:, :, 0] + 5, log_probs[:, :, 0])


def random_tree(generator, batch=1, levels=3, width=3, cut=0) -> DraftTree:
    """Grow `levels` levels, expanding at random up to two nodes of the last level of each tree, at least one."""
    return growing_trees(generator, batch, levels, width, cut)[-1]


def growing_trees(generator, batch=1, levels=3, width=3, cut=0) -> list[DraftTree]:
    """The trees of `random_tree` after each level, the lone roots first."""
    trees = [DraftTree.from_roots(generator.integers(100, size=batch))]
    for level in range(levels):
        tree = trees[-1]
        frontier = np.full((batch, 2 if level else 1), -1)
        for row in range(batch):
            leaves = np.nonzero(tree.depths[row] == level)[0]
            count = min(len(leaves), int(generator.integers(1, 3)), frontier.shape[1])
            frontier[row, :count] = generator.choice(leaves, count, replace=False)
        trees.append(tree.extend(frontier, random_children(generator, batch, frontier.shape[1], width, cut)))
    return trees


def stack(*trees) -> DraftTree:
    """One batch of trees of the same size."""
    columns = (np.concatenate([getattr(tree, name) for tree in trees]) for name in ("num_nodes", "links", "numbers"))
    return DraftTree(*columns)


def context(batch=1, position=50, remaining=100, temperature=1.0) -> StepContext:
    return StepContext(
        positions=np.full(batch, position),
        remaining=np.full(batch, remaining),
        temperatures=np.full(batch, temperature, dtype=np.float32),
        top_ps=np.ones(batch, dtype=np.float32),
        history=np.tile(START, (batch, 1)),
    )


class TableScorer:
    """Gives node i of every tree the log-probability `edges[i]`; predicts every child alike."""

    reads_history = False

    def __init__(self, edges, coverage=(0.6, 0.2, 0.1)):
        self.edges = np.asarray(edges)
        self._coverage = np.log(coverage)

    def score(self, tree, context, before=None):
        accept = np.broadcast_to(self.edges[: tree.tokens.shape[1]], tree.tokens.shape)
        return Scores(tree, accept, np.broadcast_to(self._coverage, (*tree.tokens.shape, len(self._coverage))))


def closed_subsets(tree):
    """All parent-closed sets of drafted nodes of the first tree, the root left out."""
    sets = [frozenset()]
    for node in range(1, int(tree.num_nodes[0])):
        above = int(tree.parents[0, node])
        sets += [chosen | {node} for chosen in sets if above == 0 or above in chosen]
    return sets
