"""Any `AutoModelForCausalLM` of Hugging Face transformers, run over our own tree cache."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.errors import InputError, what_it_says
from ....controller.trees.tree import Array
from ...machine.processor import processor_name
from ...machine.transfer import to_device
from ..base import Session
from .attention import TREE_ATTENTION
from .cache import RowShape, TreeCache, row_shapes
from .fingerprint import fingerprint
from .loading import load_weights
from .packing import Packing, groups_of
from .probe import tree_error
from .support import context_length, kept_states, not_as_tree, num_rows, own_attention, unsupported_reason
from .windows import layer_windows, masks_of

# Rows of padding in a block: running over fewer costs less than gathering the other rows in every layer.
LEAST_SKIPPED = 16


class TransformersModel:
    """A `CachedModel` (see `base`) that skips the padding of a block. Attention is `sdpa` with a 4-D mask; `eager`
    rounds its softmax to float32.

    shapes: of the rows that each layer stores; asked of the model if not given.
    """

    packs = True
    engine = "transformers"
    attention = TREE_ATTENTION
    max_leaves: int | None = None

    def __init__(self, model: PreTrainedModel, vocabulary_size: int, *, shapes: Sequence[RowShape] | None = None):
        reason = unsupported_reason(model)
        if reason is not None:
            raise InputError(reason)
        self.model = model.eval()
        self.vocabulary_size = vocabulary_size
        self.context_length: int = context_length(model.config)
        self.device = model.device
        self.number_format = str(model.dtype).removeprefix("torch.")
        self.processor = processor_name(model.device)
        self.session: Session | None = None
        self.hidden_layers: tuple[int, ...] = ()
        self.hidden: Tensor | None = None
        self.last_layer: int | None = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        self._windows: dict[int, int] = {}
        # Layers that share keys may run over the rows alone whose logits are wanted, but behind the masks of all.
        self._runs_all = bool(getattr(model.config.get_text_config(), "num_kv_shared_layers", 0))
        self.cache: Any = self._make_cache(shapes or row_shapes(model), dtype=model.dtype, device=model.device)

    def _make_cache(self, shapes: Sequence[RowShape], **layout: Any) -> Any:
        return TreeCache(shapes, **layout)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: torch.dtype, device: str, **options: Any) -> "TransformersModel":
        """Load a model by folder or hub id, with `options` of its class; InputError with one sentence where it cannot
        be read, or cannot be decoded as a tree."""
        model: Any = load_weights(name, dtype)
        try:
            opened = cls(model.to(device), num_rows(model), **options)
        except InputError as error:
            raise not_as_tree(name, model, str(error)) from error
        except Exception as error:  # an architecture that is no decoder may fail anywhere in its own code
            raise not_as_tree(name, model, what_it_says(error)) from error
        reason = opened.check()
        if reason is not None:
            raise not_as_tree(name, model, reason)
        return opened

    def check(self) -> str | None:
        """How trees differ from the model's own text, in words; None where they agree, without packing if need be: some
        architectures hand no options of a forward to their attention. The slots are lost."""
        reason = self._tree_error()
        if reason is not None and self.packs:
            self.packs = False
            reason = self._tree_error()
        return reason

    def _tree_error(self) -> str | None:
        try:
            return tree_error(self, self.model)
        except InputError:
            raise
        except Exception as error:  # an architecture that does not know our cache may fail anywhere, too
            return f"its forward over a tree fails ({what_it_says(error)})"
        finally:
            self.release()

    def beside(self, head: PreTrainedModel, shapes: Sequence[RowShape]) -> Self:
        """A model that reads this one's hidden states, with room for the same texts."""
        model = type(self)(head, self.vocabulary_size, shapes=shapes)
        model.context_length = self.context_length
        return model

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.model)

    @property
    def lengths(self) -> Array:
        return self.cache.lengths

    def release(self) -> None:
        """Free the cache's memory and give the model its own attention back; it may be opened again."""
        self.session = None
        self.cache.release()
        self.model.set_attn_implementation(own_attention(self.model))

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        if self.model.config._attn_implementation != self.attention and self.model._can_set_attn_implementation():
            self.model.set_attn_implementation(self.attention)
        self.session = session
        self._windows = {layer: size for layer, size in enumerate(layer_windows(self.model.config)) if size}
        self.cache.open(num_slots, capacity)

    def prepare(self, num_slots: int, num_rows: int) -> None:
        """Nothing: the first forward is as fast as the others."""

    def has_room(self, capacity: int) -> bool:
        """Always: the cache grows."""
        return True

    def join(self, capacity: int) -> None:
        self.cache.join(capacity)

    def keep(self, slots: Sequence[int]) -> None:
        self.cache.keep(slots)

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
        """As in `base`; a head reads `features` [B, n, F] beside its tokens."""
        if self.packs and real is not None and real.size - real.sum() >= LEAST_SKIPPED:
            assert features is None, "heads run over whole blocks"
            return self._packed_forward(tokens, positions, parents, real, num_logits or real.shape[1], first_slot)
        return self._whole_forward(tokens, positions, parents, num_logits, first_slot, features)

    def _whole_forward(
        self, tokens: Array, positions: Array, parents: Array, num_logits: int, first_slot: int, features: Tensor | None
    ) -> Tensor:
        """Over all rows of the block."""
        visible = self.cache.open_rows(parents, first_slot)
        masks = None if self._sees_all(visible) else masks_of(self.cache, self._windows, visible)
        options: dict[str, Any] = {"attention_mask": masks and masks.full}
        if masks and masks.windowed:  # an option that some models do not know
            options["windowed"] = masks.windowed
        if features is not None:
            options["features"] = features
        output = self._model_output(tokens, positions, num_logits, **options)
        self.hidden = self._hidden(output)
        return output.logits

    def _packed_forward(
        self, tokens: Array, positions: Array, parents: Array, real: Array, num_logits: int, first_slot: int
    ) -> Tensor:
        """Only over the rows that are `real` [B, n]; logits and hidden states of the others are 0."""
        visible = self.cache.open_rows(parents, first_slot, real)
        packing = Packing.of(real, self.device)
        kept, of_logits = packing.last(num_logits)
        groups = groups_of(
            real, self.device, lambda slots, part: masks_of(self.cache, self._windows, visible[slots, part], slots)
        )
        # No mask would have transformers make one of its own.
        options = {"attention_mask": groups[0].masks.full, "groups": groups}
        output = self._model_output(tokens[real][None], positions[real][None], kept, **options)
        hidden = self._hidden(output)
        self.hidden = None if hidden is None else packing.unpack(hidden)
        return of_logits.unpack(output.logits)

    def _model_output(self, tokens: Array, positions: Array, logits_to_keep: int | Tensor, **options: Any) -> Any:
        output: Any = self.model(
            input_ids=to_device(tokens, self.device),
            position_ids=to_device(np.clip(positions, 0, self.context_length - 1), self.device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=0 if self._runs_all else logits_to_keep,
            output_hidden_states=kept_states(self.hidden_layers),
            **options,
        )
        if self._runs_all:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            output.logits = output.logits[:, kept]
        return output

    def _hidden(self, output: Any) -> Tensor | None:
        if not self.hidden_layers:
            return None
        kept = [output.hidden_states[layer] for layer in self.hidden_layers]
        return kept[0] if len(kept) == 1 else torch.cat(kept, dim=-1)

    @property
    def _lengths(self) -> Array:
        """[B] committed rows of the slots of this forward."""
        return self.cache.lengths[self.cache.slots]

    def _sees_all(self, visible: Array) -> bool:
        """Whether all cache rows are attended to, as in plain decoding, and transformers knows."""
        ends, end = self._lengths + self.cache.num_tree_rows, self.cache.end
        is_short = all(end < size for size in self._windows.values())
        return is_short and visible.shape[1] == 1 and bool(visible.all() and (ends == end).all())

    def commit(self, rows: Array) -> None:
        self.cache.commit(rows)
