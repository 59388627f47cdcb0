"""A transformers model whose forwards have few shapes; on CUDA each is captured as a graph when it is first met.

A forward of a small batch is a thousand kernel launches of a few microseconds each; a graph is one launch. It needs
fixed shapes and addresses, so trees and batches are padded to the next size of a menu, and all inputs besides weights
and cache are two tensors, the length of each slot included. The same code runs on the CPU without capture, for tests.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import Session
from .graph import CapturedFunction
from .model import TransformersModel

# Slots, rows and logits of a forward; larger ones are not padded.
MENU = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Forwards of more rows take the device longer than their launches take the host.
MOST_CAPTURED_ROWS = 128


class Shape(NamedTuple):
    """Of one forward, as it runs."""

    first_slot: int
    num_slots: int
    num_rows: int  # of this forward, per slot
    num_seen: int  # tree rows that it may attend to, its own included
    num_logits: int  # rows whose logits are wanted, per slot


class StaticModel(TransformersModel):
    """A `CachedModel` (see `base`) of static shapes; `captures=False` runs them one launch after another."""

    packs = False

    def __init__(self, model: PreTrainedModel, vocabulary_size: int, *, captures: bool = True):
        super().__init__(model, vocabulary_size)
        self._captured: dict[Shape, CapturedFunction] = {}
        self._storage = self._cache.storage  # that the graphs know the address of
        self._logits = torch.empty(0)
        self._pool = torch.cuda.graph_pool_handle() if captures and self.device.type == "cuda" else None

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        self._cache.reserve(_menu_size(num_slots), capacity + MENU[-1])
        super().open(num_slots, capacity, session)

    def join(self, capacity: int) -> None:
        self._cache.reserve(_menu_size(len(self.lengths) + 1), capacity + MENU[-1])
        super().join(capacity)

    def _whole_forward(
        self, tokens: Array, positions: Array, parents: Array, num_logits: int, first_slot: int, features: Tensor | None
    ) -> Tensor:
        assert features is None and not self.hidden_layers, "graphs return logits alone"
        visible = self._cache.add_tree_rows(parents, first_slot)
        num_slots, num_rows, num_seen = visible.shape
        num_logits = num_logits or num_rows
        num_padded = _menu_size(num_rows)
        shape = Shape(
            first_slot,
            num_slots if first_slot else _menu_size(num_slots),  # elsewhere a slot is run alone
            num_padded,
            _menu_size(num_seen - num_rows + num_padded),
            _menu_size(num_logits),
        )
        inputs = self._padded(shape, tokens, np.clip(positions, 0, self.context_length - 1), visible, num_logits)
        logits = self._run(shape, *(to_device(part, self.device) for part in inputs))
        return logits[:num_slots, :num_logits].clone()  # the next forward overwrites them

    def _padded(
        self, shape: Shape, tokens: Array, positions: Array, visible: Array, num_logits: int
    ) -> tuple[Array, Array]:
        """What `compute` reads.

        Padding attends to itself alone. It is stored behind the real rows, or behind the committed rows of a slot that
        is not part of the forward; the next forward overwrites it.
        """
        cache, (num_slots, num_rows, num_seen) = self._cache, visible.shape
        ids, position_ids = np.zeros((2, shape.num_slots, shape.num_rows), dtype=np.int64)
        ids[:num_slots, :num_rows], position_ids[:num_slots, :num_rows] = tokens, positions
        lengths = np.zeros(shape.num_slots, dtype=np.int64)
        known = cache.lengths[shape.first_slot :][: shape.num_slots]
        lengths[: len(known)] = known
        rows = num_seen - num_rows + np.arange(shape.num_rows)
        kept = np.minimum(num_rows - num_logits + np.arange(shape.num_logits), num_rows - 1)
        seen = np.zeros((shape.num_slots, shape.num_rows, shape.num_seen), dtype=bool)
        seen[:, np.arange(shape.num_rows), rows] = True
        seen[:num_slots, :num_rows, :num_seen] = visible
        assert lengths.max() + shape.num_seen <= cache.capacity, "a forward reaches behind its cache"
        return np.concatenate(
            [part.ravel() for part in (ids, position_ids, lengths[:, None] + rows, lengths, kept)]
        ), seen

    def _run(self, shape: Shape, numbers: Tensor, seen: Tensor) -> Tensor:
        if self._pool is None or shape.num_rows > MOST_CAPTURED_ROWS:
            return self.compute(shape, numbers, seen)
        if self._storage is not self._cache.storage:  # it has grown
            self._captured, self._storage = {}, self._cache.storage
        if shape not in self._captured:
            room = self._room_for_logits(shape)
            self._captured[shape] = CapturedFunction(partial(self.compute, shape), room, self._pool)
        return self._captured[shape](numbers, seen)

    def _room_for_logits(self, shape: Shape) -> Tensor:
        """[B, k, V] of a buffer that all graphs share; those captured before it grew keep the one they know."""
        size = (shape.num_slots, shape.num_logits, self.model.config.vocab_size)
        needed = int(np.prod(size))
        if self._logits.numel() < needed:
            self._logits = torch.empty(2 * needed, dtype=self.model.dtype, device=self.device)
        return self._logits[:needed].view(size)

    def compute(self, shape: Shape, numbers: Tensor, seen: Tensor) -> Tensor:
        """Logits [B, k, V], from tensors on the device alone.

        numbers: tokens, positions and cache columns of B * n rows, lengths of B texts, and the indices of k rows whose
        logits are wanted, int64. seen: [B, n, m] bool.
        """
        area = shape.num_slots * shape.num_rows
        ids, position_ids, columns, lengths, kept = numbers.split([area, area, area, shape.num_slots, shape.num_logits])
        cache, slots = self._cache, self._cache.slots
        cache.slots, cache.end = slice(shape.first_slot, shape.first_slot + shape.num_slots), cache.capacity
        slot_indices = torch.arange(cache.slots.start, cache.slots.stop, device=numbers.device)
        cache.write = (slot_indices[:, None], columns.view(shape.num_slots, -1))
        output = self.model(
            input_ids=ids.view(shape.num_slots, -1),
            position_ids=position_ids.view(shape.num_slots, -1),
            attention_mask=seen[:, None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=kept,
            prefix_lengths=lengths.int(),
        )
        cache.slots = slots
        return output.logits


def _menu_size(count: int) -> int:
    return next((size for size in MENU if size >= count), count)
