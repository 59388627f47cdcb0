"""The network of an EAGLE-3 head (arXiv:2503.01840), and its folder in the layout of the `speculators` library.

One layer reads, for every token, its embedding beside the features of the token before it: three hidden states of the
target put through one projection, or, inside the tree, the head's own output at the parent. It speaks a vocabulary of
its own, a part of the target's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import Cache, LlamaConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from ....controller.errors import InputError, what_it_says
from ...engines.transformers.model import TransformersModel
from .folder import fill, read_weights

# Weights that training needs alone; `d2t` becomes token ids.
NOT_OF_THE_NETWORK = ("t2d", "d2t", "verifier_norm.weight", "verifier_lm_head.weight")


@dataclass(frozen=True)
class EagleConfig:
    """What a head's config.json says, with what the target adds."""

    layer: LlamaConfig  # its vocab_size is the target's
    hidden_layers: tuple[int, ...]
    target_hidden_size: int
    draft_vocabulary_size: int
    norm_before_residual: bool
    norm_before_fc: bool  # the features are normed together
    fc_norm: bool  # each of the target's hidden states is normalised separately
    norm_output: bool  # inside the tree, a normed output is handed on

    @classmethod
    def parse(cls, settings: dict[str, Any], folder: Path, target: TransformersModel) -> "EagleConfig":
        """InputError for a head that is not supported or was made for another target."""
        given = settings.get("transformer_layer_config")
        if not isinstance(given, dict):
            raise InputError(f"head {folder} has no transformer_layer_config in its config.json; copy it again")
        if given.get("model_type", "llama") != "llama" or given.get("num_hidden_layers", 1) != 1:
            raise InputError(
                f"head {folder} is made of {given.get('num_hidden_layers', 1)} {given.get('model_type', 'llama')!r} "
                "layers, but one 'llama' layer is supported; use such a head"
            )
        given = {name: value for name, value in given.items() if not name.startswith("_")}
        try:
            layer = LlamaConfig(**given | {"num_hidden_layers": 1, "attn_implementation": "sdpa"})
        except (StrictDataclassError, TypeError, ValueError) as error:
            problem = f"head {folder}: its transformer_layer_config is no layer ({what_it_says(error)}); correct it"
            raise InputError(problem) from error
        of_target = target.model.config
        num_layers, size = of_target.num_hidden_layers, settings.get("target_hidden_size") or layer.hidden_size
        if size != of_target.hidden_size:
            raise InputError(
                f"head {folder} reads hidden states of {size} numbers, but the target's have {of_target.hidden_size}; "
                "use a head made for this target"
            )
        # Layer j means the input of layer j, so the output of the one before it.
        usual = (2, num_layers // 2, num_layers - 3)
        hidden_layers = tuple(settings.get("eagle_aux_hidden_state_layer_ids") or usual)
        if not all(isinstance(layer_id, int) and 0 <= layer_id < num_layers for layer_id in hidden_layers):
            raise InputError(
                f"head {folder} reads before the layers {list(hidden_layers)} of the target, which has layers 0 to "
                f"{num_layers - 1}; set eagle_aux_hidden_state_layer_ids in its config.json or use its own target"
            )
        flags = {
            name: bool(settings.get(name, False))
            for name in ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")
        }
        return cls(layer, hidden_layers, size, settings.get("draft_vocab_size") or layer.vocab_size, **flags)


class EagleLayer(nn.Module):
    """A Llama layer whose attention reads twice the width: embedding and features, normed separately."""

    def __init__(self, config: EagleConfig):
        super().__init__()
        layer, size, eps = config.layer, config.layer.hidden_size, config.layer.rms_norm_eps
        self.norm_before_residual = config.norm_before_residual
        self.hidden_norm, self.input_layernorm, self.post_attention_layernorm = (
            LlamaRMSNorm(size, eps=eps) for _ in range(3)
        )
        self.self_attn = LlamaAttention(layer, layer_idx=0)
        for name in ("q_proj", "k_proj", "v_proj"):
            narrow = getattr(self.self_attn, name)
            setattr(self.self_attn, name, nn.Linear(2 * size, narrow.out_features, bias=narrow.bias is not None))
        self.mlp = LlamaMLP(layer)

    def forward(
        self,
        embedded: Tensor,
        features: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache,
        **options: Any,
    ) -> Tensor:
        normed = self.hidden_norm(features)
        attended, _ = self.self_attn(
            torch.cat((self.input_layernorm(embedded), normed), dim=-1),
            position_embeddings=rotary,
            attention_mask=mask,
            past_key_values=cache,
            **options,
        )
        hidden = (normed if self.norm_before_residual else features) + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class EagleHead(LlamaPreTrainedModel):
    """In the form of a causal language model that reads features beside its tokens, so that `TransformersModel` runs
    it; its one hidden state is what its children in the tree read."""

    def __init__(self, config: EagleConfig):
        super().__init__(config.layer)
        size, eps = config.layer.hidden_size, config.layer.rms_norm_eps
        num_states, width = len(config.hidden_layers), config.target_hidden_size
        self.norm_output = config.norm_output
        self.embed_tokens = nn.Embedding(config.layer.vocab_size, size)
        self.fc_norm = nn.ModuleList(LlamaRMSNorm(width, eps=eps) for _ in range(num_states * config.fc_norm))
        self.input_norm = LlamaRMSNorm(num_states * width, eps=eps) if config.norm_before_fc else nn.Identity()
        self.fc = nn.Linear(num_states * width, size, bias=False)
        self.layers = nn.ModuleList([EagleLayer(config)])
        self.norm = LlamaRMSNorm(size, eps=eps)
        self.rotary_emb = LlamaRotaryEmbedding(config.layer)
        self.lm_head = nn.Linear(size, config.draft_vocabulary_size, bias=False)
        self.token_ids: Tensor | None = None  # [draft vocabulary] of the target's tokens; None: they are the same

    def fuse(self, hidden: Tensor) -> Tensor:
        """[n, H] features from the target's hidden states [n, states * width], concatenated."""
        if self.fc_norm:
            states = hidden.chunk(len(self.fc_norm), dim=-1)
            hidden = torch.cat([norm(state) for norm, state in zip(self.fc_norm, states, strict=True)], dim=-1)
        return self.fc(self.input_norm(hidden))

    def forward(
        self,
        input_ids: Tensor,
        features: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None,
        past_key_values: Cache,
        logits_to_keep: int | Tensor,
        paged: Cache | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        rotary = self.rotary_emb(features, position_ids)
        options = {} if paged is None else {"paged": paged}
        hidden = self.layers[0](
            self.embed_tokens(input_ids), features, rotary, attention_mask, past_key_values, **options
        )
        normed = self.norm(hidden)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits: Any = self._in_target_tokens(self.lm_head(normed[:, kept]))
        handed_on: Any = normed if self.norm_output else hidden
        return CausalLMOutputWithPast(logits=logits, hidden_states=(handed_on,))

    def _in_target_tokens(self, logits: Tensor) -> Tensor:
        """[..., V], -inf for tokens the head never drafts."""
        if self.token_ids is None:
            return logits
        wide = logits.new_full((*logits.shape[:-1], self.config.vocab_size), -torch.inf)
        return wide.index_copy_(-1, self.token_ids, logits)


def load_eagle_head(folder: Path, settings: dict[str, Any], target: TransformersModel) -> tuple[EagleConfig, EagleHead]:
    """InputError in one sentence for a head that is damaged, unsupported or made for another target."""
    config, weights = EagleConfig.parse(settings, folder, target), read_weights(folder)
    embeddings: Any = target.model.get_input_embeddings()
    embedding: Tensor = embeddings.weight
    if "embed_tokens.weight" not in weights:
        config.layer.vocab_size = len(embedding)
        weights["embed_tokens.weight"] = embedding.detach()
    if config.layer.vocab_size < target.vocabulary_size:
        raise InputError(
            f"head {folder} knows {config.layer.vocab_size} tokens, but the target's tokenizer has "
            f"{target.vocabulary_size}; use a head made for this target"
        )
    token_ids = _token_ids(weights.get("d2t"), config, folder)
    with torch.device("meta"):
        head = EagleHead(config)
    fill(head, {name: weights[name] for name in weights if name not in NOT_OF_THE_NETWORK}, folder, embedding)
    # Its frequencies stay in float32 in any format of the weights, so it is not cast.
    head.rotary_emb = LlamaRotaryEmbedding(config.layer).to(embedding.device)
    head.token_ids = None if token_ids is None else token_ids.to(embedding.device)
    return config, head


def _token_ids(offsets: Tensor | None, config: EagleConfig, folder: Path) -> Tensor | None:
    """[draft vocabulary] int64: draft token i is the target's token `i + offsets[i]`."""
    size, target_size = config.draft_vocabulary_size, config.layer.vocab_size
    if offsets is None:
        if size != target_size:
            raise InputError(f"head {folder} drafts {size} of {target_size} tokens but has no 'd2t'; copy it again")
        return None
    if offsets.shape != (size,):
        raise InputError(f"head {folder}: 'd2t' has {offsets.numel()} entries for {size} draft tokens; copy it again")
    token_ids = torch.arange(size) + offsets.long()
    if token_ids.min() < 0 or token_ids.max() >= target_size or len(token_ids.unique()) < size:
        raise InputError(
            f"head {folder}: 'd2t' does not name {size} different tokens from 0 to {target_size - 1}; copy it again"
        )
    return token_ids
