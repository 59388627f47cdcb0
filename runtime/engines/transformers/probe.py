"""Whether a model can be decoded as a tree, by a comparison of forwards.

transformers' models differ in how they compute positions, caches and masks. A model that ignores an argument would not
fail but generate another text, so each is compared with its own plain forwards when it is loaded.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.trees.tree import Array
from ..base import CachedModel, append_text
from .windows import narrowed

# Two texts of different lengths, and the rows of a binary tree behind each. The first block is run whole, the second is
# mostly padding and runs packed (see `packing`), where a model can.
TEXT_LENGTHS = (5, 3)
TREE_SIZES = ((6, 4), (24, 4))
# Windows are narrowed to so many positions: fewer than those of the texts and of the deeper tree.
WINDOW = 3
# The last rows of each tree, which are compared.
NUM_COMPARED = 6
# Largest difference of logits that is rounding, relative to the largest logit; attention of an older kind rounds its
# softmax to float32. Half precision is judged by most rows, for a mixture of experts may route a row otherwise by
# rounding alone.
TOLERANCES = {torch.float64: (1e-5, 1.0), torch.float32: (2e-3, 1.0)}
HALF_TOLERANCE = (0.1, 0.75)


class Rows(NamedTuple):
    """Two trees behind two texts, and the rows of them that are compared."""

    texts: list[Array]
    tokens: Array  # [2, n] int64
    paths: list[list[int]]  # from the root to each row
    real: Array  # [2, n] bool
    compared: list[tuple[int, int]]  # tree and row


def tree_error(model: CachedModel, plain: PreTrainedModel) -> str | None:
    """How ragged forwards over two trees differ from those of `plain`, the same model with its own attention, over
    their paths, in words; None where they agree. The model's slots are lost."""
    examples = [_example(model.vocabulary_size, sizes) for sizes in TREE_SIZES]
    with narrowed(plain.config, WINDOW):
        wanted = [_plain_logits(plain, rows) for rows in examples]
        for rows, expected in zip(examples, wanted, strict=True):
            found = _tree_logits(model, rows)
            tolerance, share = TOLERANCES.get(found.dtype, HALF_TOLERANCE)
            difference = (found.double() - expected.double())[:, : model.vocabulary_size].abs().amax(dim=-1)
            error = float((difference / expected.double().abs().max()).quantile(share))
            if not error <= tolerance:  # NaN included
                return f"logits behind a tree differ from the model's own by {error:.1%} of the largest"
    return None


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


def _tree_logits(model: CachedModel, rows: Rows) -> Tensor:
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


@torch.inference_mode()
def _plain_logits(plain: PreTrainedModel, rows: Rows) -> Tensor:
    """The same, by one forward over their paths; shorter ones are padded behind their end, which causal attention
    ignores."""
    paths = [np.append(rows.texts[tree], rows.tokens[tree, rows.paths[node]]) for tree, node in rows.compared]
    ends = np.array([len(path) for path in paths])
    block: Array = np.zeros((len(paths), ends.max()), dtype=np.int64)
    for row, path in enumerate(paths):
        block[row, : len(path)] = path
    logits = plain(input_ids=torch.from_numpy(block).to(plain.device), use_cache=False).logits
    return logits[torch.arange(len(paths)), torch.from_numpy(ends - 1)]
