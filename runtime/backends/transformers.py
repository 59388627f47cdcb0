"""Any `AutoModelForCausalLM` of Hugging Face transformers, run over our own tree cache."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from ...controller.errors import InputError, first_line
from ...controller.tree import Array
from ..cache import TreeCache
from .attention import TREE_ATTENTION


class TransformersModel:
    """A `CachedModel` (see `base`). Attention is `sdpa` with a 4-D mask; `eager` rounds its softmax to float32."""

    def __init__(self, model: PreTrainedModel, vocabulary_size: int):
        reason = unsupported_reason(model)
        if reason is not None:
            raise InputError(reason)
        model.set_attn_implementation(TREE_ATTENTION)
        self.model = model.eval()
        self.vocabulary_size = vocabulary_size
        self.context_length: int = model.config.max_position_embeddings
        self.device = model.device
        self._cache: TreeCache | None = None

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: torch.dtype, device: str, vocabulary_size: int
    ) -> "TransformersModel":
        """Load a model by folder or hub id; InputError with one sentence where it cannot be read."""
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                pretrained_model_name_or_path=name, dtype=dtype, attn_implementation="sdpa"
            )
        except (OSError, ValueError, KeyError) as error:
            hint = "check the folder" if Path(name).exists() else "give a folder or a hub id that is cached or online"
            raise InputError(f"no model can be loaded from {name!r} ({first_line(error)}); {hint}") from error
        return cls(model.to(device), vocabulary_size)

    @property
    def lengths(self) -> Array:
        return self._open_cache.lengths

    @property
    def _open_cache(self) -> TreeCache:
        assert self._cache is not None, "open() comes before any forward"
        return self._cache

    def open(self, num_slots: int, capacity: int) -> None:
        if self._cache is not None and self._cache.num_slots == num_slots and self._cache.capacity >= capacity:
            self._cache.clear()
            return
        config = self.model.config
        num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cache = TreeCache(
            num_layers=config.num_hidden_layers,
            num_slots=num_slots,
            num_heads=num_heads,
            capacity=capacity,
            head_size=head_size,
            dtype=self.model.dtype,
            device=self.device,
        )

    @torch.inference_mode()
    def forward(self, tokens: Array, positions: Array, visible: Array, *, num_logits: int = 0) -> Tensor:
        cache = self._open_cache
        cache.open_rows(tokens.shape[1])
        output = self.model(
            input_ids=torch.from_numpy(tokens).to(self.device),
            position_ids=torch.from_numpy(np.clip(positions, 0, self.context_length - 1)).to(self.device),
            attention_mask=self._mask(visible),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=num_logits,
        )
        return output.logits

    def _mask(self, visible: Array) -> Tensor | None:
        """[B, 1, n, rows] to be added to the scores of all cache rows, 0 where a row is seen and -inf elsewhere; None
        where every row is seen, as in plain decoding. Kernels would turn a bool mask into this one in every layer."""
        cache = self._open_cache
        if visible.shape[1] == 1 and visible.all() and (cache.lengths + cache.num_tree_rows == cache.end).all():
            return None
        mask = np.zeros((*visible.shape[:2], cache.end), dtype=bool)
        for slot, length in enumerate(cache.lengths):
            mask[slot, :, :length] = True
            mask[slot, :, length : length + cache.num_tree_rows] = visible[slot]
        seen = torch.from_numpy(mask[:, None]).to(self.device)
        return torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device).masked_fill_(~seen, -torch.inf)

    def commit(self, rows: Array) -> None:
        self._open_cache.commit(rows)


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why this model cannot be decoded as a tree, in a sentence; None where it can."""
    config = model.config
    if config._attn_implementation not in ("sdpa", TREE_ATTENTION):
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
