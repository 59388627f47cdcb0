"""Two ragged trees behind two texts, by which a model is compared with its own plain forwards when it is loaded."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...controller.trees.tree import Array
from .base import CachedModel, append_text

# Two texts of different lengths, and the rows of a binary tree behind each. The first block is run whole, the second is
# mostly padding and runs packed, where a model can.
TEXT_LENGTHS = (5, 3)
TREE_SIZES = ((6, 4), (24, 4))
# The last rows of each tree, which are compared.
NUM_COMPARED = 6


class Rows(NamedTuple):
    """Two trees behind two texts, and the rows of them that are compared."""

    texts: list[Array]
    tokens: Array  # [2, n] int64
    paths: list[list[int]]  # from the root to each row
    real: Array  # [2, n] bool
    compared: list[tuple[int, int]]  # tree and row


def examples(vocabulary_size: int) -> list[Rows]:
    return [_example(vocabulary_size, sizes) for sizes in TREE_SIZES]


def _example(vocabulary_size: int, sizes: tuple[int, int]) -> Rows:
    generator = np.random.default_rng(0)
    num_rows = max(sizes)
    texts = [generator.integers(vocabulary_size, size=length) for length in TEXT_LENGTHS]
    tokens = generator.integers(vocabulary_size, size=(2, num_rows))
    paths = [[0]]
    for row in range(1, num_rows):
        paths.append([*paths[_parent(row)], row])
    compared = [(tree, row) for tree, size in enumerate(sizes) for row in range(max(1, size - NUM_COMPARED), size)]
    return Rows(texts, tokens, paths, np.arange(num_rows) < np.array(sizes)[:, None], compared)


def _parent(row: Array | int) -> Any:
    return (row - 1) // 2


def tree_logits(model: CachedModel, rows: Rows) -> Tensor:
    """[n, V] behind the rows that are compared, by one forward over both trees."""
    num_rows = len(rows.paths)
    model.open(2, max(TEXT_LENGTHS) + num_rows)
    for slot, text in enumerate(rows.texts):
        append_text(model, slot, text)
    parents = np.where(rows.real, _parent(np.arange(num_rows)), -1)
    positions = np.array(TEXT_LENGTHS)[:, None] + np.array([len(path) for path in rows.paths]) - 1
    # All but the roots': some architectures do not know that only some are asked for.
    logits = model.forward(rows.tokens, positions, parents, num_logits=num_rows - 1, real=rows.real)
    trees, nodes = zip(*rows.compared, strict=True)
    return logits[list(trees), np.array(nodes) - 1]
