"""Token trees as a batch of vLLM has them: rows behind each other, a root and its drafted nodes per request."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....controller.trees.numbers import NodeNumbers
from ....controller.trees.tree import Array, DraftTree


class Branches(NamedTuple):
    """The tree of one request, the root left out; nodes are numbered from 1, parents first, and 0 is the root."""

    tokens: list[int]
    parents: list[int]

    @classmethod
    def of(cls, tree: DraftTree, row: int) -> "Branches":
        count = int(tree.num_nodes[row])
        return cls(tree.tokens[row, 1:count].tolist(), tree.parents[row, 1:count].tolist())

    @property
    def is_branched(self) -> bool:
        """Whether a node follows another one than the node before it."""
        return self.parents != list(range(len(self.parents)))

    def scheduled(self, tokens: Sequence[int]) -> "Branches | None":
        """The part that vLLM scheduled, which may be shorter; None where its tokens are others."""
        count = len(tokens)
        if count > len(self.tokens) or self.tokens[:count] != list(tokens):
            return None
        return Branches(self.tokens[:count], self.parents[:count])


def chain_of(tokens: Sequence[int]) -> Branches:
    """Drafts of unknown origin, each behind the one before."""
    return Branches(list(tokens), list(range(len(tokens))))


def depths_of(parents: Sequence[int]) -> list[int]:
    """Of the root and every node."""
    depths = [0]
    for parent in parents:
        depths.append(depths[parent] + 1)
    return depths


def ancestors_of(parents: Sequence[int]) -> Tensor:
    """[n + 1, n + 1] bool: which rows each row attends to: its ancestors, the root and itself."""
    sees = torch.eye(len(parents) + 1, dtype=torch.bool)
    for node, parent in enumerate(parents, start=1):
        sees[node] |= sees[parent]
    return sees


def batch_tree(roots: Array, branches: Sequence[Branches | None]) -> DraftTree:
    """The trees of a batch as one, None for a lone root; their drafting numbers are not known any more."""
    counts = np.array([1 + (len(of_row.tokens) if of_row else 0) for of_row in branches])
    width = int(counts.max())
    links = np.zeros((len(roots), width, 4), dtype=np.int64)
    links[:, :, 1:3] = -1
    links[:, 0, 0], links[:, 0, 2] = roots, 0
    for row, of_row in enumerate(branches):
        if of_row:
            stop = int(counts[row])
            links[row, 1:stop, 0], links[row, 1:stop, 1] = of_row.tokens, of_row.parents
            links[row, 1:stop, 2] = depths_of(of_row.parents)[1:]
    return DraftTree(counts, links, np.zeros((len(roots), width, len(NodeNumbers._fields)), dtype=np.float32))


def first_path(tree: DraftTree, nodes: Array, row: int) -> list[int]:
    """Of the kept `nodes` [B, K] of a tree, the first child of the first child and so on, the root first."""
    path = [0]
    for node in nodes[row, 1:].tolist():
        if node >= 0 and tree.parents[row, node] == path[-1]:
            path.append(node)
    return path
