"""Which models can be decoded as a tree, by their configuration and by a comparison of forwards.

transformers' models differ in how they compute positions, caches and masks. A model that ignores an argument would not
fail but generate another text, so each is compared with its own plain forwards when it is loaded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.trees.tree import Array
from ..base import CachedModel, append_text
from .attention import PAGED_ATTENTION, TREE_ATTENTION

# The attention implementation that a model must have been loaded with.
PLAIN_ATTENTION = "sdpa"
# Two texts of different lengths, and the rows of a binary tree behind each. The first block is run whole, the second is
# mostly padding and runs packed (see `packing`), where a model can.
TEXT_LENGTHS = (5, 3)
TREE_SIZES = ((6, 4), (24, 4))
# The last rows of each tree, which are compared.
NUM_COMPARED = 6
# Largest difference of logits that is rounding, relative to the largest logit; half precision is judged by most rows,
# for a mixture of experts may route a row otherwise by rounding alone.
TOLERANCES = {torch.float64: (1e-8, 1.0), torch.float32: (2e-3, 1.0)}
HALF_TOLERANCE = (0.1, 0.75)


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why this model cannot be decoded as a tree, in a sentence; None where it can."""
    config = model.config
    if config._attn_implementation not in (PLAIN_ATTENTION, TREE_ATTENTION, PAGED_ATTENTION):
        return f"tree decoding needs sdpa attention, the model uses {config._attn_implementation!r}; load it with sdpa"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"sliding-window attention ({config.sliding_window} tokens) is not supported; use a full-attention model"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"only full-attention layers can be decoded as a tree, the model has {sorted(kinds)}"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        return f"{rope!r} rotary positions change with the longest text of a batch; use a model with default ones"
    if not getattr(config, "max_position_embeddings", None):
        return f"the model's configuration ({config.model_type}) names no context length (max_position_embeddings)"
    return None


def tree_error(model: CachedModel, plain: Callable[..., Any]) -> str | None:
    """How ragged forwards over two trees differ from `plain` forwards over their paths, in words; None where they
    agree. The model's slots are lost."""
    for sizes in TREE_SIZES:
        found, expected = _rows(model, plain, sizes)
        tolerance, share = TOLERANCES.get(found.dtype, HALF_TOLERANCE)
        difference = (found.double() - expected.double()).abs().amax(dim=-1)
        error = float((difference / expected.double().abs().max()).quantile(share))
        if not error <= tolerance:  # NaN included
            return f"logits behind a tree differ from the model's own by {error:.1%} of the largest"
    return None


def _rows(model: CachedModel, plain: Callable[..., Any], sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """[n, V] logits behind some nodes, by the forward over both trees and by plain ones."""
    generator = np.random.default_rng(0)
    num_rows = max(sizes)
    texts = [generator.integers(model.vocabulary_size, size=length) for length in TEXT_LENGTHS]
    trees = generator.integers(model.vocabulary_size, size=(2, num_rows))
    parents = (np.arange(num_rows) - 1) // 2
    paths = [[0]]  # of rows from the root to each
    for row in range(1, num_rows):
        paths.append([*paths[parents[row]], row])
    model.open(2, max(TEXT_LENGTHS) + num_rows)
    for slot, text in enumerate(texts):
        append_text(model, slot, text)
    real = np.arange(num_rows) < np.array(sizes)[:, None]
    positions = np.array(TEXT_LENGTHS)[:, None] + np.array([len(path) for path in paths]) - 1
    logits = model.forward(trees, positions, np.where(real, parents, -1), real=real)
    compared = [(slot, row) for slot, size in enumerate(sizes) for row in range(max(0, size - NUM_COMPARED), size)]
    prefixes = [[*texts[slot].tolist(), *trees[slot, paths[row]].tolist()] for slot, row in compared]
    expected = _plain_rows(plain, prefixes, logits.device)
    slots, rows = zip(*compared, strict=True)
    return logits[list(slots), list(rows)][:, : model.vocabulary_size], expected[:, : model.vocabulary_size]


@torch.inference_mode()
def _plain_rows(plain: Callable[..., Any], paths: list[list[int]], device: torch.device) -> Tensor:
    """[n, V] logits behind each path; the shorter ones are padded behind their end, which causal attention ignores."""
    ends = np.array([len(path) for path in paths])
    block: Array = np.zeros((len(paths), ends.max()), dtype=np.int64)
    for row, path in enumerate(paths):
        block[row, : len(path)] = path
    with torch.compiler.set_stance("force_eager"):
        logits = plain(input_ids=torch.from_numpy(block).to(device), use_cache=False).logits
    return logits[torch.arange(len(paths)), torch.from_numpy(ends - 1)]
