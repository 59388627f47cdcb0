"""A transformers model on a device: packed rows over a paged cache, in forwards of few shapes, captured as graphs.

A forward of a small batch is hundreds of kernel launches of a few microseconds each; a graph is one launch. It needs
fixed shapes and addresses, so rows and texts are padded to the next size of a menu, and all inputs besides weights and
cache come in one upload. The same code runs on the CPU without capture, for tests.
"""

from collections.abc import Hashable, Sequence
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
from .shapes import MOST_BYTES, MOST_SEEN, ROWS, Layout, Shape, padding, whole_layout
from .support import kept_states

# Rows of a cache whose size nobody has set: enough to compare a model's forwards.
DEFAULT_ROWS = 4096


class StaticModel(TransformersModel):
    """A `CachedModel` (see `base`) of static shapes; without `captures` they run one launch after another, and without
    `compiles` each operation is one."""

    attention = PAGED_ATTENTION

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary_size: int,
        *,
        shapes: Sequence[RowShape] | None = None,
        captures: bool = True,
        compiles: bool = True,
    ):
        super().__init__(model, vocabulary_size, shapes=shapes)
        if self._runs_all:
            raise InputError("its layers share keys and values, which graphs do not know")
        groups = getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads
        self._heads = model.config.num_attention_heads // groups
        self._size: tuple[int, int] | None = None  # in rows, and of the longest text; None until somebody sets it
        self._graphs: Graphs | None = None
        if captures and self._paged.is_fused:
            self._graphs = Graphs(self.device, ROWS[-1])
        if self._paged.is_fused:
            merge_projections(model)
        self._compiled = CompiledLayers(model).in_use if compiles and self._paged.is_fused else nullcontext

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
        """Memory for so many cache rows, of all texts together, while the model is open; slots and graphs are lost.

        longest: tokens of the longest text, which a drafter's own context may not hold."""
        self._size = num_rows, max(longest, self.context_length) + MOST_SEEN + CHUNK
        self._allot(*self._size)

    def _allot(self, num_rows: int, longest: int) -> None:
        if self._graphs is not None:
            self._graphs.clear()
        self._paged.allot(num_rows, longest)
        self._uploads = Uploads(MOST_BYTES if num_rows else 0, self.device)
        self._features = torch.empty(0)

    def release(self) -> None:
        super().release()
        self._allot(0, 0)

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        if self._paged.num_rows == 0:
            default = max(DEFAULT_ROWS, num_slots * (capacity + PAGE)), self.context_length + MOST_SEEN + CHUNK
            self._allot(*self._size or default)
        super().open(num_slots, capacity, session)
        self._paged.windows = self._windows

    @property
    def num_rows(self) -> int:
        """Of the cache, for all texts together."""
        return self._paged.num_rows

    @torch.inference_mode()
    def prepare(self, num_slots: int, num_rows: int) -> None:
        """Capture the graphs of these shapes."""
        if self._graphs is None:
            return
        no_rows = np.zeros(0, dtype=np.int64)
        for shape in Shape.menu(num_slots, num_rows, heads=self._heads):
            if self._key(shape) not in self._graphs:
                self._run(shape, padding(shape), np.zeros((0, 0), dtype=np.uint8), no_rows, no_rows, None)

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
        shape = Shape.of(num_texts, len(layout.texts), heads=self._heads)
        slots, num_seen = first_slot + layout.texts, visible.shape[2]
        lengths = self.lengths[slots]
        stored = self._paged.rows_at(slots, lengths + (num_seen - num_rows) + layout.columns)
        within = np.minimum(positions, self.context_length - 1)
        numbers = layout.numbers(shape, (tokens, within), (stored, slots, lengths), num_seen)
        seen = layout.rows(self._paged.seen_bits(visible))
        wanted = layout.packed[:, num_rows - num_logits :].ravel()
        logits, hidden = self._run(shape, numbers, seen, wanted, layout.packed.ravel(), features)
        self.hidden = None if hidden is None else hidden.view(num_texts, num_rows, -1)
        return logits.view(num_texts, num_logits, -1)

    def _run(
        self, shape: Shape, numbers: Array, seen: Array, wanted: Array, block: Array, features: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of the packed rows that are `wanted` [k], and hidden states, if any are kept, of those of the `block`;
        all after one upload."""
        chosen = np.append(wanted, block) if self.hidden_layers else wanted
        before = numbers.nbytes + -(-seen.size // 8) * 8
        count = before + chosen.nbytes
        is_captured = self._graphs is not None and shape.num_rows <= ROWS[-1]
        is_captured = is_captured and seen.shape[1] <= MOST_SEEN and count <= MOST_BYTES
        data = self._uploads.begin(count) if is_captured else np.empty(count, dtype=np.uint8)
        data[: numbers.nbytes], data[before:] = numbers.view(np.uint8), chosen.view(np.uint8)
        data[numbers.nbytes : numbers.nbytes + seen.size] = seen.ravel()
        inputs = self._uploads.send(count) if is_captured else to_device(data, self.device)
        indices = inputs[before:count].view(torch.int64)
        rows = None if features is None else features.flatten(0, 1)[None]
        if not is_captured or self._graphs is None:
            logits, *hidden = self.compute(shape, inputs, rows, indices[: len(wanted)])
        else:
            rows = None if rows is None else self._kept_features(rows)[:, : shape.num_rows]
            logits, *hidden = self._graphs.run(self._key(shape, rows), partial(self.compute, shape, inputs, rows))
            logits = logits.index_select(0, indices[: len(wanted)])
        return logits, hidden[0].index_select(0, indices[len(wanted) :]) if hidden else None

    def _key(self, shape: Shape, features: Tensor | None = None) -> Hashable:
        """Of a graph."""
        return shape, self.hidden_layers, features is not None

    def _kept_features(self, rows: Tensor) -> Tensor:
        """[1, n, F]: these [1, M, F], where graphs read them."""
        if self._features.numel() == 0:
            self._features = rows.new_zeros((1, ROWS[-1], rows.shape[-1]))
        self._features[:, : rows.shape[1]] = rows
        return self._features

    def compute(
        self, shape: Shape, data: Tensor, features: Tensor | None = None, wanted: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Logits [k, V] of the `wanted` rows [k] or of all, and hidden states [M, F] if any are kept, from tensors on
        the device alone: the bytes of numbers (see `Shape.sizes`), then what each row sees."""
        num_bytes = 8 * sum(shape.sizes)
        numbers, seen = data[:num_bytes].view(torch.int64), data[num_bytes:]
        tokens, positions, stored, slots, lengths, blocks, num_seen = numbers.split(shape.sizes)
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
                logits_to_keep=0 if wanted is None else wanted,
                output_hidden_states=kept_states(self.hidden_layers),
                paged=self._paged,
                **({} if features is None else {"features": features}),
            )
        hidden = self._hidden(output)
        return (output.logits[0],) if hidden is None else (output.logits[0], hidden[0])
