"""Medusa heads as drafter (arXiv:2401.10774): all depths from one hidden state of the target, in one pass.

Head d reads the target's hidden state of the token before the root and predicts the token d positions behind the root,
for any tokens between them: a marginal distribution, the same for every node of a level.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ....controller.contract import Scheme
from ....controller.errors import InputError
from ....controller.trees.children import Children
from ....controller.trees.tree import Array, DraftTree
from ...engines.base import Session
from ...engines.transformers.model import TransformersModel
from ...prefixes.rows import NO_PREFIX, Prefix
from ...processing import processed
from ...sampling import TokenSampler
from ...schemes.ranked import draft
from ...target import Target
from ...verification.base import DraftRows
from .folder import fill, read_weights


class ResidualBlock(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + silu(self.linear(hidden))


class MedusaDrafter:
    """A `Drafter` (see `base`) under a scheme of the walk; `heads` has one network [H] to [V] per depth.

    Nothing is drafted for a sequence whose prompt the target has not read to its end.
    """

    draft_rows: DraftRows = ()
    most_ahead = num_ahead = 0

    def __init__(self, heads: nn.ModuleList, target: Target, scheme: Scheme):
        self.scheme = scheme
        self._heads = heads
        self._target = target
        self._root_positions: list[int] = []
        self._last: list[Tensor | None] = []  # [H] of the last token that the target has read
        self._logits = torch.empty(0)  # [B, depths, V] of the current step

    def prepare(self, num_slots: int, frontier: int) -> None:
        pass  # there is nothing to capture

    def open(self) -> Sequence[Session]:
        self._root_positions, self._last = [], []
        return ()

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self._root_positions.append(len(text) - 1)
        self._last.append(None)

    def keep(self, slots: Sequence[int]) -> None:
        self._root_positions = [self._root_positions[slot] for slot in slots]
        self._last = [self._last[slot] for slot in slots]

    @torch.inference_mode()
    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        level = int(tree.depths.max())
        if level == 0:
            last = [self._read(slot) if wanted else None for slot, wanted in enumerate(frontier[:, 0] >= 0)]
            known = next((row for row in last if row is not None), None)
            if known is None:
                return tree
            frontier = np.where(np.array([row is not None for row in last])[:, None], frontier, -1)
            rows = torch.stack([known if row is None else row for row in last])
            self._logits = torch.stack([head(rows) for head in self._heads], dim=1)
        elif level >= len(self._heads):
            return tree
        positions = np.array(self._root_positions[: len(frontier)]) + level + 1
        logits = self._logits[:, level : level + 1]
        if any(sampler.processors):  # by each node's own path
            logits = logits.expand(-1, frontier.shape[1], -1)
            logits = processed(sampler.processors, tree, frontier, logits, of_target=False)
        children = draft(self.scheme, logits, positions, width, sampler)
        return tree.extend(frontier, _repeated(children, frontier.shape[1] // logits.shape[1]))

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        for slot, num_accepted in enumerate((path >= 0).sum(axis=1).tolist()):
            self._root_positions[slot] += num_accepted + 1

    def _read(self, slot: int) -> Tensor | None:
        """[H] of the token before the root; None where the target has not read it."""
        hidden = self._target.take_hidden(slot)
        if hidden is not None:
            self._last[slot] = hidden[-1]
        return None if self._target.num_unread(slot) else self._last[slot]


def _repeated(children: Children, num_nodes: int) -> Children:
    """Those of each node, all but the n-grams' columns, for so many nodes like it."""
    return Children(*(np.repeat(column, num_nodes, axis=1) for column in children[:5]))


def load_medusa_heads(folder: Path, settings: dict[str, Any], target: TransformersModel) -> nn.ModuleList:
    """One network per depth; InputError for heads that are damaged or made for another target."""
    counts = settings["medusa_num_heads"], settings.get("medusa_num_layers", 1)
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        raise InputError(f"heads {folder}: medusa_num_heads and medusa_num_layers are at least 1, got {list(counts)}")
    (num_heads, num_layers), weights = counts, read_weights(folder)
    embeddings: Any = target.model.get_input_embeddings()
    size, vocabulary_size = target.model.config.hidden_size, target.model.config.vocab_size
    with torch.device("meta"):
        heads = nn.ModuleList(
            nn.Sequential(
                *(ResidualBlock(size) for _ in range(num_layers)), nn.Linear(size, vocabulary_size, bias=False)
            )
            for _ in range(num_heads)
        )
    fill(heads, weights, folder, embeddings.weight)
    return heads
