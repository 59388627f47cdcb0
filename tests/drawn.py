"""Hand-made sampled trees with rows of probabilities, of one slot."""

import numpy as np
import torch
from treewright.controller.trees.children import Children
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.sampling import Sampling, TokenSampler


def tree_of_paths(paths, trunk=0):
    """The merged tree of token sequences that were drawn in this order; their first `trunk` tokens are one draw."""
    nodes = {(): 0}
    for path in paths:
        for depth in range(1, len(path) + 1):
            nodes.setdefault(tuple(path[:depth]), len(nodes))
    tree = tree_of_prefixes(nodes)
    table = np.full((1, len(paths), max(map(len, paths))), -1)
    for row, path in enumerate(paths):
        for depth in range(trunk if row else 0, len(path)):
            table[0, row, depth] = nodes[tuple(path[: depth + 1])]
    return DraftTree(tree.num_nodes, tree.links, tree.numbers, table)


def tree_of_prefixes(prefixes):
    """A tree without `paths` whose nodes are token sequences, the empty one first, in draw order."""
    order = list(prefixes)
    tree = DraftTree.from_roots(np.array([0]))
    one = np.zeros((1, 1, 1), dtype=np.float32)
    for prefix in order[1:]:
        child = Children(np.array([[[prefix[-1]]]]), one, one, one[0], one[0])
        tree = tree.extend(np.array([[order.index(prefix[:-1])]]), child)
    return tree


def random_rows(generator, num_nodes, vocabulary_size):
    """[N, V] float64 rows of probabilities."""
    return torch.from_numpy(generator.dirichlet(np.ones(vocabulary_size), size=num_nodes))


def inner_rows(tree, rows):
    """Draft rows for `Verifier`: the logarithms of those of the nodes that have children."""
    return [{int(node): rows[node].log() for node in set(tree.parents[0, 1:].tolist())}]


def sampler_of(vocabulary_size, seed=0):
    return TokenSampler([Sampling(seed=seed)], vocabulary_size, torch.device("cpu"))


def stack(*trees):
    """One batch of trees of the same size."""
    links, numbers, num_nodes = (
        np.concatenate([getattr(tree, name) for tree in trees]) for name in ("links", "numbers", "num_nodes")
    )
    return DraftTree(num_nodes, links, numbers, np.concatenate([tree.paths for tree in trees]))
