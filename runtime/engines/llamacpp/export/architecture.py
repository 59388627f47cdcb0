"""A Llama of transformers in the names, shapes and settings of GGUF."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from .....controller.errors import InputError
from ...transformers.support import num_rows

ARCHITECTURE = "llama"
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
OF_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def require_exportable(name: str, model: PreTrainedModel) -> None:
    """InputError for a model whose function the file could not hold."""
    config: Any = model.config
    hint = "; export a plain Llama, or convert the folder with llama.cpp's own convert_hf_to_gguf.py"
    if not isinstance(model, LlamaForCausalLM):
        raise InputError(
            f"model {name!r} is of the architecture {config.model_type!r}, and only Llama's are exported{hint}"
        )
    kind = config.rope_parameters.get("rope_type", "default")
    if kind != "default":
        raise InputError(f"model {name!r} has {kind!r} rotary positions, and only unscaled ones are exported{hint}")
    if config.hidden_act != "silu":
        raise InputError(f"model {name!r} has the activation {config.hidden_act!r}, and only silu is exported{hint}")


def add_settings(writer: Any, model: PreTrainedModel) -> None:
    """The model's sizes, as metadata of a `gguf.GGUFWriter`."""
    config: Any = model.config
    writer.add_vocab_size(num_rows(model))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Weights and biases by their names in the file, float32, one after the other; a tied output layer is left out."""
    config: Any = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module == "lm_head" and config.tie_word_embeddings:
            continue
        if module in WHOLE:
            new = WHOLE[module]
        else:
            _, _, layer, part = module.split(".", 3)
            new = f"blk.{layer}.{OF_LAYERS[part]}"
        count = heads.get(new.rpartition(".")[2])
        weight = weight.to(torch.float32)
        yield f"{new}.{kind}", weight if count is None else _interleaved(weight, count)


def _interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Queries or keys [heads * size, ...] whose rotated pairs are neighbours; transformers has them half a head
    apart."""
    halves = weight.unflatten(0, (num_heads, 2, -1))
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()
