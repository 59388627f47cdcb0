"""A transformers model on a device: packed rows over a paged cache, in forwards of few shapes, captured as graphs.

A forward of a small batch is hundreds of kernel launches of a few microseconds each; a graph is one launch. It needs
fixed shapes and addresses, so rows and texts are padded to the next size of a menu, and all inputs besides weights and
cache come in one upload. The same code runs on the CPU without capture, for tests.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ...machine.transfer import Uploads, to_device
from ..base import CHUNK, Session
from .attention import PAGED_ATTENTION
from .cache import RowShape
from .compiled import CompiledLayers
from .graph import Graphs
from .merged import merge_projections
from .model import TransformersModel
from .paged_cache import PagedCache
from .pages import PAGE, PackedRows
from .shapes import MOST_BYTES, MOST_SEEN, ROWS, TEXTS, Layout, Shape, menu_size, padding, whole_blocks, whole_layout

# Rows of a cache whose size nobody has set: enough to compare a model's forwards.
DEFAULT_ROWS = 4096


class StaticModel(TransformersModel):
    """A `CachedModel` (see `base`) of static shapes; `captures=False` runs them one launch after another."""

    attention = PAGED_ATTENTION

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary_size: int,
        *,
        shapes: Sequence[RowShape] | None = None,
        captures: bool = True,
    ):
        super().__init__(model, vocabulary_size, shapes=shapes)
        if self._runs_all:
            raise InputError("its layers share keys and values, which graphs do not know")
        groups = getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads
        self._heads = model.config.num_attention_heads // groups
        self._graphs: Graphs | None = None
        if captures and self._paged.is_fused:
            self._graphs = Graphs(self.device, ROWS[-1])
        if self._paged.is_fused:
            merge_projections(model)
            self._compiled = CompiledLayers(model).in_use
        else:
            self._compiled = nullcontext

    def _make_cache(self, shapes: Sequence[RowShape], **layout: Any) -> PagedCache:
        self._paged = PagedCache(shapes, **layout)
        return self._paged

    def check(self) -> str | None:
        return self._tree_error()  # other forwards than packed ones there are none

    def beside(self, head: PreTrainedModel, shapes: Sequence[RowShape]) -> Self:
        model = super().beside(head, shapes)
        model.size(self.num_rows)
        return model

    @property
    def row_bytes(self) -> int:
        """Of the cache, for one token."""
        return self._paged.row_bytes

    def size(self, num_rows: int, longest: int = 0) -> None:
        """Memory for so many cache rows, of all texts together, until it is released; slots and graphs are lost.

        longest: tokens of the longest text, which a drafter's own context may not hold."""
        if self._graphs is not None:
            self._graphs.clear()
        self._paged.allot(num_rows, max(longest, self.context_length) + MOST_SEEN + CHUNK)
        self._uploads = Uploads(MOST_BYTES if num_rows else 0, self.device)
        self._features = torch.empty(0)

    def release(self) -> None:
        super().release()
        self.size(0)

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        if self._paged.num_rows == 0:
            self.size(max(DEFAULT_ROWS, num_slots * (capacity + PAGE)))
        super().open(num_slots, capacity, session)
        self._paged.windows = self._windows

    @property
    def num_rows(self) -> int:
        """Of the cache, for all texts together."""
        return self._paged.num_rows

    @torch.inference_mode()
    def prepare(self, num_slots: int, num_rows: int, *, num_logits: int = 0) -> None:
        """Capture the graphs of all such shapes."""
        if self._graphs is None:
            return
        for texts in TEXTS[: TEXTS.index(menu_size(TEXTS, num_slots)) + 1]:
            for rows in ROWS:
                if texts <= rows <= menu_size(ROWS, min(texts * num_rows, ROWS[-1])):
                    shape = Shape.of(texts, rows, is_last=num_logits == 1 and rows > texts, heads=self._heads)
                    nothing = np.zeros((0, 0), dtype=np.uint8), np.zeros(0, dtype=np.int64)
                    self._run(shape, padding(shape), *nothing, None)

    def has_room(self, capacity: int) -> bool:
        return self._paged.has_room(capacity)

    @torch.inference_mode()
    def forward(
        self,
        tokens: Array,
        positions: Array,
        parents: Array,
        *,
        num_logits: int = 0,
        first_slot: int = 0,
        real: Array | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        assert features is None or real is None, "heads run over whole blocks"
        num_texts, num_rows = tokens.shape
        num_logits = num_logits or num_rows
        visible = self._paged.add_tree_rows(parents, first_slot)
        layout = whole_layout(num_texts, num_rows) if real is None or real.all() else Layout.of(real)
        is_last = num_logits == 1 < num_rows
        shape = Shape.of(num_texts, len(layout.texts), is_last=is_last, heads=self._heads)
        numbers = self._numbers(shape, layout, tokens, positions, first_slot, visible.shape[2])
        of_logits = layout.packed[:, num_rows - num_logits :].ravel()
        if is_last:
            numbers[-shape.num_texts :][:num_texts] = of_logits
            of_logits = np.arange(num_texts)
        chosen = np.append(of_logits, layout.packed) if self.hidden_layers else of_logits
        seen = layout.rows(self._paged.seen_bits(visible))
        (logits, *hidden), indices = self._run(shape, numbers, seen, chosen, features)
        self.hidden = None
        if hidden:
            of_hidden = indices[of_logits.size :]
            self.hidden = hidden[0].index_select(0, of_hidden).view(*layout.packed.shape, -1)
        return logits.index_select(0, indices[: of_logits.size]).view(num_texts, num_logits, -1)

    def _numbers(
        self, shape: Shape, layout: Layout, tokens: Array, positions: Array, first_slot: int, num_seen: int
    ) -> Array:
        """[n] int64, the parts of `Shape.sizes` one after another."""
        numbers, block = padding(shape).copy(), tokens.shape
        of_rows, of_blocks = numbers[: 5 * shape.num_rows].reshape(5, -1), numbers[5 * shape.num_rows :]
        of_rows = of_rows[:, : len(layout.texts)]
        slots = first_slot + layout.texts
        lengths = self.lengths[slots]
        of_rows[0] = layout.rows(tokens)
        np.minimum(layout.rows(positions), self.context_length - 1, out=of_rows[1])
        of_rows[2] = self._paged.rows_at(slots, lengths + (num_seen - block[1]) + layout.columns)
        of_rows[3], of_rows[4] = slots, lengths
        is_whole = len(layout.texts) == tokens.size
        blocks = whole_blocks(*block, shape) if is_whole else layout.blocks(shape)
        of_blocks[: blocks.size], of_blocks[blocks.size] = blocks.ravel(), num_seen
        return numbers

    def _run(
        self, shape: Shape, numbers: Array, seen: Array, chosen: Array, features: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """What `compute` gives, good until the next forward, and the indices `chosen`, all after one upload."""
        before = numbers.nbytes + -(-seen.size // 8) * 8
        count = before + chosen.nbytes
        rows = None if features is None else features.flatten(0, 1)[None]
        is_captured = self._graphs is not None and shape.num_rows <= ROWS[-1]
        is_captured = is_captured and seen.shape[1] <= MOST_SEEN and count <= MOST_BYTES
        data = self._uploads.begin(count) if is_captured else np.empty(count, dtype=np.uint8)
        data[: numbers.nbytes], data[before:] = numbers.view(np.uint8), chosen.view(np.uint8)
        data[numbers.nbytes : numbers.nbytes + seen.size] = seen.ravel()
        if not is_captured or self._graphs is None:
            uploaded = to_device(data, self.device)
            return self.compute(shape, uploaded, rows), uploaded[before:].view(torch.int64)
        inputs = self._uploads.send(count)
        if rows is not None:
            if self._features.numel() == 0:
                self._features = rows.new_zeros((1, ROWS[-1], rows.shape[-1]))
            self._features[:, : rows.shape[1]] = rows
            rows = self._features[:, : shape.num_rows]
        key = shape, self.hidden_layers, rows is not None
        results = self._graphs.run(key, partial(self.compute, shape, inputs, rows))
        return results, inputs[before:count].view(torch.int64)

    def compute(self, shape: Shape, data: Tensor, features: Tensor | None = None) -> tuple[Tensor, ...]:
        """Logits [n, V] of the rows that get them, and hidden states [M, F] if any are kept, from tensors on the device
        alone: the bytes of numbers (see `Shape.sizes`), then what each row sees."""
        num_bytes = 8 * sum(shape.sizes)
        numbers, seen = data[:num_bytes].view(torch.int64), data[num_bytes:]
        tokens, positions, stored, slots, lengths, blocks, num_seen, kept = numbers.split(shape.sizes)
        rows = PackedRows(
            self._paged.tables, slots, lengths, positions, num_seen, seen, blocks.view(2, -1), shape.block_rows
        )
        self._paged.begin(stored, rows)
        with self._compiled():
            output = self.model(
                input_ids=tokens[None],
                position_ids=positions[None],
                attention_mask=seen[:1].view(1, 1, 1, 1).bool(),  # none would have transformers make one of its own
                past_key_values=self._paged,
                use_cache=True,
                logits_to_keep=kept if shape.is_last else 0,
                output_hidden_states=self.hidden_layers or False,
                paged=self._paged,
                **({} if features is None else {"features": features}),
            )
        hidden = self._hidden(output)
        return (output.logits[0],) if hidden is None else (output.logits[0], hidden[0])
