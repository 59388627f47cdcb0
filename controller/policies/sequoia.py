"""Sequoia's dynamic programme (arXiv:2402.12374): the best static tree, and its size by the machine's prices.

Under a positional acceptance vector P (the chance that the child of rank r is taken, at any depth) a tree commits
`1 + sum over nodes of the product of P along the path` tokens per step.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..pricing.latency import LatencyTable
from ..scorers.rank import RankScorer
from ..trees.limits import TreeLimits
from ..trees.shapes import Path
from ..trees.tree import Array
from .selector import Selector


def best_values(rank_probs: Array, max_depth: int, max_nodes: int) -> Array:
    """[D + 1, W + 1, N + 1]: entry (d, r, n) is the largest worth of n nodes under a node that is taken.

    They are its children of rank r and beyond, with their descendants, d levels in all; -inf where n do not fit.
    """
    width = len(rank_probs)
    values = np.full((max_depth + 1, width + 1, max_nodes + 1), -np.inf)
    values[:, :, 0] = 0.0
    for depth in range(1, max_depth + 1):
        for rank in reversed(range(width)):
            for nodes in range(1, max_nodes + 1):
                values[depth, rank, nodes] = _splits(values, rank_probs, depth, rank, nodes).max()
    return values


def best_tree(values: Array, rank_probs: Array, depth: int, nodes: int) -> list[Path]:
    """The paths of a best tree of exactly `nodes` nodes and at most `depth` levels, shortest first."""
    assert np.isfinite(values[depth, 0, nodes]), "so many nodes do not fit into these levels"
    paths: list[Path] = []
    # The node above, levels left, first rank, nodes to distribute.
    waiting: list[tuple[Path, int, int, int]] = [((), depth, 0, nodes)]
    while waiting:
        above, levels, rank, count = waiting.pop()
        if count == 0:
            continue
        size = int(np.argmax(_splits(values, rank_probs, levels, rank, count)))
        if size:
            paths.append((*above, rank))
            waiting.append(((*above, rank), levels - 1, 0, size - 1))
        waiting.append((above, levels, rank + 1, count - size))
    return sorted(paths, key=lambda path: (len(path), path))


def _splits(values: Array, rank_probs: Array, depth: int, rank: int, nodes: int) -> Array:
    """[nodes + 1]: worth of `nodes` nodes from `rank` on when the child of that rank and its subtree take i of them."""
    with_child = rank_probs[rank] * (1.0 + values[depth - 1, 0, :nodes])
    rest = values[depth, rank + 1, nodes::-1]
    return np.concatenate(([0.0], with_child)) + rest


def cheapest_tree(
    rank_probs: Sequence[float], table: LatencyTable, *, max_depth: int, sizes: Sequence[int]
) -> list[Path]:
    """The best tree of the (size, depth) with the fewest priced milliseconds per token, behind a short context.

    A size that does not fit into the levels is taken for the largest that does.
    """
    probs = np.asarray(rank_probs)
    values = best_values(probs, max_depth, max(sizes))
    largest = int(np.isfinite(values[max_depth, 0]).sum()) - 1
    priced: list[tuple[float, int, int]] = []
    for nodes in {min(size, largest) for size in sizes}:
        for depth in range(1, max_depth + 1):
            if np.isfinite(values[depth, 0, nodes]):
                widths = level_widths(best_tree(values, probs, depth, nodes))
                step_ms = table.step_ms(widths, nodes, batch=1, context=table.contexts[0])
                priced.append((step_ms / (1.0 + values[depth, 0, nodes]), depth, nodes))
    _, depth, nodes = min(priced)
    return best_tree(values, probs, depth, nodes)


def level_widths(paths: Sequence[Path]) -> list[int]:
    """How many nodes each drafter level expands."""
    counts = Counter(map(len, {path[:-1] for path in paths}))
    return [counts[depth] for depth in range(len(counts))]


def static_selector(
    paths: Sequence[Path], ngram_rank: int | None = None, *, min_prob: float = 0.0, path_prob: float = 0.0
) -> Selector:
    """The policy that drafts and verifies exactly these paths, every step, but what the thresholds of `Selector` cut; a
    child of `ngram_rank` is the n-grams'."""
    scorer = RankScorer.from_paths(paths)
    ngrams = ngram_rank is not None and scorer.width > ngram_rank
    limits = TreeLimits(scorer.max_depth, scorer.width - ngrams, max(level_widths(paths)), len(paths), ngrams)
    return Selector(scorer, limits, min_prob=min_prob, path_prob=path_prob)
