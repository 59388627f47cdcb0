"""What a request does with rows of logits before anything is chosen by them: penalties, bans, constraints.

The target's row at each node of a tree is processed with that node's own text, so the walk stays exact whatever was
drafted. The drafter's rows are processed as well: else what is banned would be drafted.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array, DraftTree
from .machine.transfer import to_device


class RowProcessor(Protocol):
    """A function of one request's text: it remembers nothing that changes a later answer."""

    def __call__(self, generated: Tensor, logits: Tensor, *, of_target: bool) -> Tensor:
        """[n, V] for `logits` [n, V], the target's or the drafter's, behind n continuations of the prompt, `generated`
        [n, g] int64."""
        ...


class TextProcessor(NamedTuple):
    """A processor with the text that it goes by."""

    process: RowProcessor
    token_ids: Sequence[int]  # generated so far; grows


def processed(
    processors: Sequence[TextProcessor | None], tree: DraftTree, nodes: Array | None, logits: Tensor, *, of_target: bool
) -> Tensor:
    """[B, F, V] for `logits` [B, F, V] behind `nodes` [B, F] of the texts' trees, -1 where a tree has fewer;
    behind all nodes if none are given."""
    if not any(processors[: len(logits)]):
        return logits
    if nodes is None:
        nodes = np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)
    # Processors add to scores in float32 at least, which a narrower format would round again.
    changed = logits.clone() if logits.dtype in (torch.float32, torch.float64) else logits.float()
    for slot, (processor, of_slot) in enumerate(zip(processors, nodes, strict=False)):
        if processor is None:
            continue
        depths = np.where(of_slot >= 0, tree.depths[slot, of_slot], -1)
        for depth in np.unique(depths[depths >= 0]).tolist():  # nodes of one depth have texts of one length
            places = np.nonzero(depths == depth)[0]
            ids = np.array(processor.token_ids, dtype=np.int64)
            texts = np.concatenate((np.tile(ids, (len(places), 1)), _paths(tree, slot, of_slot[places])), axis=1)
            at = to_device(places, logits.device)
            generated = to_device(texts, logits.device)
            rows = processor.process(generated, changed[slot, at], of_target=of_target)
            changed[slot, at] = rows.to(changed.dtype)
    return changed


def _paths(tree: DraftTree, slot: int, nodes: Array) -> Array:
    """[n, depth] tokens of the paths to `nodes` [n] of one depth, the root left out."""
    columns: list[Array] = []
    while tree.depths[slot, nodes[0]] > 0:
        columns.insert(0, tree.tokens[slot, nodes])
        nodes = tree.parents[slot, nodes]
    return np.stack(columns, axis=1) if columns else np.zeros((len(nodes), 0), dtype=np.int64)
