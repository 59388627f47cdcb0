"""An EAGLE-3 head as drafter (arXiv:2503.01840): a decoder layer over the target's hidden states.

Its row for token i reads the target's hidden states at i and the embedding of token i + 1, and predicts the token after
that one. So the row before the root gives the root's children, and a node's row reads its parent's output in place of
hidden states. Accepted tokens are read again with the target's hidden states.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....controller.contract import Scheme
from ....controller.trees.tree import Array, DraftTree
from ...engines.base import CHUNK, FEW, Session
from ...engines.transformers.cache import RowShape
from ...engines.transformers.model import TransformersModel
from ...machine.transfer import to_device
from ...prefixes.rows import NO_PREFIX, Prefix
from ...processing import processed
from ...sampling import TokenSampler
from ...schemes.ranked import draft
from ...target import Target
from ...verification.base import DraftRows
from ..tree_rows import TreeRows
from .eagle_head import EagleHead


class EagleDrafter:
    """A `Drafter` (see `base`) under a scheme of the walk.

    Per slot it holds the tokens it has not read, and their features as far as the target has computed them. Nothing is
    drafted for a sequence whose prompt the target has not read to its end.
    """

    draft_rows: DraftRows = ()
    most_ahead = num_ahead = 0

    def __init__(self, head: EagleHead, target: Target, scheme: Scheme):
        self.scheme = scheme
        layer: Any = head.config  # whose numbers transformers types as optional
        stored = layer.num_key_value_heads, layer.head_dim
        assert isinstance(target.model, TransformersModel), "heads read the hidden states of this engine's models"
        self.model = target.model.beside(head, [RowShape(stored, stored)])
        self.model.hidden_layers = (0,)
        self._head = head
        self._target = target
        self._tokens: list[Array] = []
        self._features: list[Tensor] = []  # [n, H] each, for the first n of the tokens
        self._rows = TreeRows(0)
        self._outputs = torch.empty(0)  # [B, 1 + rows, H] of the roots, then of the rows of the trees

    def prepare(self, num_slots: int, frontier: int) -> None:
        pass  # graphs of one layer are captured in no time

    def open(self) -> Sequence[Session]:
        self._tokens, self._features = [], []
        return (Session(self.model, first_token=1),)

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self.model.join(capacity)
        num_read = prefix.fill(self.model, prefix.most_with_states(len(text)))
        self._tokens.append(text[1 + num_read :])
        self._features.append(self._head.fc.weight.new_zeros((0, self._head.fc.out_features)))

    def keep(self, slots: Sequence[int]) -> None:
        self.model.keep(slots)
        self._tokens = [self._tokens[slot] for slot in slots]
        self._features = [self._features[slot] for slot in slots]

    @torch.inference_mode()
    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        if tree.tokens.shape[1] == 1:
            self._take_features(np.nonzero(frontier[:, 0] >= 0)[0])
            frontier = np.where(self._is_ready(len(frontier))[:, None], frontier[:, :1], -1)
            if (frontier < 0).all():
                return tree
            logits = self._root_logits(frontier[:, 0] >= 0)
        else:
            logits = self._node_logits(tree, frontier)
        logits = processed(sampler.processors, tree, frontier, logits, of_target=False)
        positions = self.model.lengths[: len(frontier)] + tree.depths.max() + 1
        return tree.extend(frontier, draft(self.scheme, logits, positions, width, sampler))

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        self.model.commit(np.full((len(path), 0), -1))
        for slot, nodes in enumerate(path):
            accepted = tree.tokens[slot, nodes[nodes >= 0]]
            self._tokens[slot] = np.concatenate((self._tokens[slot], accepted, next_tokens[slot : slot + 1]))

    def _take_features(self, slots: Array) -> None:
        for slot in slots.tolist():
            hidden = self._target.take_hidden(slot)
            if hidden is not None:
                self._features[slot] = torch.cat((self._features[slot], self._head.fuse(hidden)))

    def _is_ready(self, num_slots: int) -> Array:
        """[B] bool: every token up to the root has its features."""
        of_slots = zip(self._tokens[:num_slots], self._features, strict=False)
        return np.array([0 < len(tokens) == len(features) for tokens, features in of_slots])

    def _root_logits(self, drafting: Array) -> Tensor:
        """[B, 1, V] after the roots of the slots that are `drafting` [B]; reads all their committed tokens."""
        slots = np.nonzero(drafting)[0].tolist()
        for slot in slots:
            self._read_alone(slot, len(self._tokens[slot]) - FEW)
        counts = np.array([len(self._tokens[slot]) if slot in slots else 0 for slot in range(len(drafting))])
        width = int(counts.max())
        tokens = np.zeros((len(counts), width), dtype=np.int64)
        features = self._features[slots[0]].new_zeros((*tokens.shape, self._head.fc.out_features))
        for slot in slots:
            tokens[slot, : counts[slot]] = self._tokens[slot]
            features[slot, : counts[slot]] = self._features[slot]
            self._tokens[slot], self._features[slot] = self._tokens[slot][:0], self._features[slot][:0]
        rows = np.broadcast_to(np.arange(width), tokens.shape)
        positions = self.model.lengths[: len(counts), None] + rows
        logits = self.model.forward(tokens, positions, rows - 1, features=features)
        self.model.commit(np.where(rows < counts[:, None], rows, -1))
        last = to_device(np.maximum(counts - 1, 0)[:, None], logits.device)
        self._rows, self._outputs = TreeRows(len(counts)), _at(self._hidden, last)
        return _at(logits, last)

    def _read_alone(self, slot: int, num_tokens: int) -> None:
        """Read so many of one slot's tokens, to which the others would be padded."""
        for start in range(0, num_tokens, CHUNK):
            rows = np.arange(min(CHUNK, num_tokens - start))[None]
            self.model.forward(
                self._tokens[slot][start + rows],
                self.model.lengths[slot] + rows,
                rows - 1,
                num_logits=1,
                first_slot=slot,
                features=self._features[slot][None, start : start + rows.size],
            )
            self.model.commit(rows)
        done = max(0, num_tokens)
        self._tokens[slot], self._features[slot] = self._tokens[slot][done:], self._features[slot][done:]

    def _node_logits(self, tree: DraftTree, frontier: Array) -> Tensor:
        """[B, F, V] after nodes of the deepest level."""
        parent_rows = self._rows.add(tree, frontier)
        nodes = np.maximum(frontier, 0)
        tokens, depths = (np.take_along_axis(column, nodes, axis=1) for column in (tree.tokens, tree.depths))
        features = _at(self._outputs, to_device(parent_rows + 1, self._outputs.device))
        positions = self.model.lengths[: len(nodes), None] - 1 + depths
        logits = self.model.forward(tokens, positions, parent_rows, features=features)
        self._outputs = torch.cat((self._outputs, self._hidden), dim=1)
        return logits

    @property
    def _hidden(self) -> Tensor:
        assert self.model.hidden is not None
        return self.model.hidden


def _at(rows: Tensor, indices: Tensor) -> Tensor:
    """[B, n, H]: of `rows` [B, m, H] those at `indices` [B, n]."""
    return rows.gather(1, indices[..., None].expand(*indices.shape, rows.shape[-1]))
