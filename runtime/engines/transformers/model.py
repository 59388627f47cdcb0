"""Any `AutoModelForCausalLM` of Hugging Face transformers, run over our own tree cache."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ....controller.errors import InputError, what_it_says
from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import Session
from .attention import TREE_ATTENTION
from .cache import TreeCache
from .fingerprint import fingerprint
from .loading import load_weights
from .packing import Group, Packing, parts
from .support import PLAIN_ATTENTION, tree_error, unsupported_reason

# Rows of padding in a block: running over fewer costs less than gathering the other rows in every layer.
LEAST_SKIPPED = 16


class TransformersModel:
    """A `CachedModel` (see `base`) that skips the padding of a block. Attention is `sdpa` with a 4-D mask; `eager`
    rounds its softmax to float32."""

    packs = True
    attention = TREE_ATTENTION
    max_leaves: int | None = None

    def __init__(self, model: PreTrainedModel, vocabulary_size: int):
        reason = unsupported_reason(model)
        if reason is not None:
            raise InputError(reason)
        self.model = model.eval()
        self.vocabulary_size = vocabulary_size
        self.context_length: int = model.config.max_position_embeddings
        self.device = model.device
        self.session: Session | None = None
        self.hidden_layers: tuple[int, ...] = ()
        self.hidden: Tensor | None = None
        config = model.config
        self._cache = self._make_cache(
            num_layers=config.num_hidden_layers,
            num_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            dtype=model.dtype,
            device=model.device,
        )

    def _make_cache(self, **layout: Any) -> Any:
        return TreeCache(**layout)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: torch.dtype, device: str) -> "TransformersModel":
        """Load a model by folder or hub id; InputError with one sentence where it cannot be read, or cannot be decoded
        as a tree."""
        model: Any = load_weights(name, dtype)
        try:
            opened = cls(model.to(device), num_rows(model))
            reason = tree_error(opened, model)
            opened.release()
        except InputError:
            raise
        except Exception as error:  # an architecture that does not know our cache may fail anywhere in its own code
            raise _not_as_tree(name, model, what_it_says(error)) from error
        if reason is not None:
            raise _not_as_tree(name, model, reason)
        return opened

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the model, see `fingerprint`."""
        return fingerprint(self.model)

    @property
    def lengths(self) -> Array:
        return self._cache.lengths

    def release(self) -> None:
        """Free the cache's memory and give the model its own attention back; it may be opened again."""
        self.session = None
        self._cache.release()
        self.model.set_attn_implementation(PLAIN_ATTENTION)

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        if self.model.config._attn_implementation != self.attention:
            self.model.set_attn_implementation(self.attention)
        self.session = session
        self._cache.open(num_slots, capacity)

    def prepare(self, num_slots: int, num_rows: int, *, num_logits: int = 0) -> None:
        """Nothing: the first forward is as fast as the others."""

    def has_room(self, capacity: int) -> bool:
        """Always: the cache grows."""
        return True

    def join(self, capacity: int) -> None:
        self._cache.join(capacity)

    def keep(self, slots: Sequence[int]) -> None:
        self._cache.keep(slots)

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
        visible = self._cache.open_rows(parents, first_slot)
        options: dict[str, Any] = {} if features is None else {"features": features}
        mask = None if self._sees_all(visible) else self._mask(visible, self._lengths)
        output = self._model_output(tokens, positions, num_logits, attention_mask=mask, **options)
        self.hidden = self._hidden(output)
        return output.logits

    def _packed_forward(
        self, tokens: Array, positions: Array, parents: Array, real: Array, num_logits: int, first_slot: int
    ) -> Tensor:
        """Only over the rows that are `real` [B, n]; logits and hidden states of the others are 0."""
        visible = self._cache.open_rows(parents, first_slot, real)
        packing = Packing.of(real, self.device)
        kept, of_logits = packing.last(num_logits)
        groups = self._groups(real, visible)
        # No mask would have transformers make one of its own.
        options = {"attention_mask": groups[0].mask, "groups": groups}
        output = self._model_output(tokens[real][None], positions[real][None], kept, **options)
        hidden = self._hidden(output)
        self.hidden = None if hidden is None else packing.unpack(hidden)
        return of_logits.unpack(output.logits)

    def _model_output(self, tokens: Array, positions: Array, logits_to_keep: int | Tensor, **options: Any) -> Any:
        return self.model(
            input_ids=to_device(tokens, self.device),
            position_ids=to_device(np.clip(positions, 0, self.context_length - 1), self.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
            output_hidden_states=self.hidden_layers or False,
            **options,
        )

    def _hidden(self, output: Any) -> Tensor | None:
        if not self.hidden_layers:
            return None
        return torch.cat([output.hidden_states[layer] for layer in self.hidden_layers], dim=-1)

    @property
    def _lengths(self) -> Array:
        """[B] committed rows of the slots of this forward."""
        return self._cache.lengths[self._cache.slots]

    def _sees_all(self, visible: Array) -> bool:
        """Whether all cache rows are attended to, as in plain decoding."""
        ends = self._lengths + self._cache.num_tree_rows
        return visible.shape[1] == 1 and bool(visible.all() and (ends == self._cache.end).all())

    def _groups(self, real: Array, visible: Array) -> list[Group]:
        groups, num_packed = [], 0
        for slots, columns in parts(real):
            packing = Packing.of(real[slots, columns], self.device)
            packed = slice(num_packed, num_packed + len(packing.indices))
            groups.append(Group(slots, packed, packing, self._mask(visible[slots, columns], self._lengths[slots])))
            num_packed = packed.stop
        return groups

    def _mask(self, visible: Array, lengths: Array) -> Tensor:
        """[B, 1, n, rows] mask to add to the scores of all cache rows, 0 or -inf: attention to the `lengths` [B]
        committed rows, and to the tree rows that are `visible` [B, n, m + n].

        Kernels would convert a bool mask to this one in every layer.
        """
        cache = self._cache
        mask = np.zeros((*visible.shape[:2], cache.end), dtype=bool)
        for row, length in enumerate(lengths):
            mask[row, :, :length] = True
            mask[row, :, length : length + cache.num_tree_rows] = visible[row]
        seen = to_device(mask[:, None], self.device)
        return torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device).masked_fill_(~seen, -torch.inf)

    def commit(self, rows: Array) -> None:
        self._cache.commit(rows)


def _not_as_tree(name: str, model: PreTrainedModel, reason: str) -> InputError:
    return InputError(
        f"{name!r} ({model.config.model_type}) cannot be decoded as a tree: {reason}; choose a model of another "
        "architecture"
    )


def num_rows(model: PreTrainedModel) -> int:
    """Token ids that a model has rows for."""
    return model.config.get_text_config().vocab_size
