"""Whether a model can be decoded as a tree, by a comparison of forwards.

transformers' models differ in how they compute positions, caches and masks. A model that ignores an argument would not
fail but generate another text, so each is compared with its own plain forwards when it is loaded.
"""

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.trees.tree import Array
from ..base import CachedModel
from ..probe import Rows, examples, tree_logits
from .windows import narrowed

# Windows are narrowed to so many positions: fewer than those of the texts and of the deeper tree.
WINDOW = 3
# Largest difference of logits that is rounding, relative to the largest logit; attention of an older kind rounds its
# softmax to float32. Half precision is judged by most rows, for a mixture of experts may route a row otherwise by
# rounding alone.
TOLERANCES = {torch.float64: (1e-5, 1.0), torch.float32: (2e-3, 1.0)}
HALF_TOLERANCE = (0.1, 0.75)


def tree_error(model: CachedModel, plain: PreTrainedModel) -> str | None:
    """How ragged forwards over two trees differ from those of `plain`, the same model with its own attention, over
    their paths, in words; None where they agree. The model's slots are lost."""
    trees = examples(model.vocabulary_size)
    with narrowed(plain.config, WINDOW):
        wanted = [_plain_logits(plain, rows) for rows in trees]
        for rows, expected in zip(trees, wanted, strict=True):
            found = tree_logits(model, rows)
            tolerance, share = TOLERANCES.get(found.dtype, HALF_TOLERANCE)
            difference = (found.double() - expected.double())[:, : model.vocabulary_size].abs().amax(dim=-1)
            error = float((difference / expected.double().abs().max()).quantile(share))
            if not error <= tolerance:  # NaN included
                return f"logits behind a tree differ from the model's own by {error:.1%} of the largest"
    return None


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
