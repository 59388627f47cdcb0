"""Grows a Llama-architecture model to a larger shape of the same function, so that its steps cost what a real one's do.

Nothing added reaches the residual stream: output projections are zero there, in added layers throughout, which leaves a
third of all weights zero. The others are small random numbers, for hardware may run cooler and faster over zeros. The
size of a head stays, for the frequencies of rotary positions are made from it, and so does the vocabulary.

RMSNorm divides by the mean square of all channels. With n channels, each held c times among N, its weights grow by
sqrt(c n / N) and its epsilon by c n / N. A weight so scaled is rounded when it is stored, in bfloat16 by up to 0.4 %,
hence the copies: the norm weights of the copies of one channel are numbers that add up to the scaled weight, and every
projection that reads the channels sums over the copies. Three bfloat16 numbers add up to any float32 number.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ...controller.errors import InputError
from .settings import ModelSize

MOST_COPIES = 3
# Projections that write to the residual stream.
WRITERS = ("embed_tokens", "o_proj", "down_proj")


class Axis(NamedTuple):
    """Where the numbers along a small axis lie on a large one; those of a channel lie there several times."""

    places: Tensor  # [n] int64, on the large axis
    sources: Tensor  # [n] int64, on the small axis


def inflate(
    model: PreTrainedModel,
    size: ModelSize,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> LlamaForCausalLM:
    """The grown model in the memory of `device`, where its random weights are drawn, too; the small one may be on
    another. InputError where `size` is smaller than the model in any way, or where it is no Llama."""
    grown = empty_model(model, size, dtype)
    weights = dict(inflated_weights(model, size, dtype=dtype, device=device, seed=seed))
    if grown.config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    grown.load_state_dict(weights, assign=True)
    grown.tie_weights()
    grown.model.rotary_emb = LlamaRotaryEmbedding(grown.config).to(device)
    grown.generation_config = copy.deepcopy(model.generation_config)
    return grown.eval()


def empty_model(model: PreTrainedModel, size: ModelSize, dtype: torch.dtype) -> LlamaForCausalLM:
    """The grown model without memory for its weights (on the device `meta`)."""
    with torch.device("meta"):
        config = inflated_config(model, size, dtype)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)


def inflated_config(model: PreTrainedModel, size: ModelSize, dtype: torch.dtype) -> PreTrainedConfig:
    """InputError as `inflate` says."""
    old = model.config
    if not isinstance(model, LlamaForCausalLM):
        raise InputError(
            f"only Llama-architecture models can be inflated, got {old.model_type!r}; choose another model"
        )
    size.check("size")
    has_and_gets = {
        "layers": (old.num_hidden_layers, size.num_layers),
        "channels": (old.hidden_size, size.hidden_size),
        "feed-forward channels": (old.intermediate_size, size.intermediate_size),
        "key-value heads": (old.num_key_value_heads, size.num_key_value_heads),
        "query heads per key-value head": (_group_size(old), size.num_heads // size.num_key_value_heads),
    }
    for name, (has, gets) in has_and_gets.items():
        if gets < has:
            raise InputError(f"inflating only adds, but a model of {has} {name} would get {gets}; choose a larger size")
    config = copy.deepcopy(old)
    config.num_hidden_layers = size.num_layers
    config.hidden_size = size.hidden_size
    config.intermediate_size = size.intermediate_size
    config.num_attention_heads = size.num_heads
    config.num_key_value_heads = size.num_key_value_heads
    config.head_dim = _head_size(old)
    config.rms_norm_eps = old.rms_norm_eps * _num_copies(old, config) * old.hidden_size / size.hidden_size
    config.dtype = dtype
    return config


def inflated_weights(
    model: PreTrainedModel, size: ModelSize, *, dtype: torch.dtype, device: str | torch.device, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """The grown weights by name, one after the other, so that they need not be in memory together; tied ones once."""
    empty = empty_model(model, size, dtype)
    small, config = model.state_dict(), empty.config
    num_copies = _num_copies(model.config, config)
    axes = {name: Axis(*(part.to(device) for part in axis)) for name, axis in _axes(model.config, config).items()}
    generator = torch.Generator(device).manual_seed(seed)
    for name, shape in empty.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        module = name.split(".")[-2]
        weight = torch.empty(shape.shape, dtype=dtype, device=device)
        kept = small[name].to(device) if name in small else None  # of added layers, nothing
        if module.endswith("norm"):
            _fill_norm(weight, kept, num_copies)
        else:
            if module in WRITERS:
                weight.zero_()
            else:
                weight.normal_(std=config.initializer_range, generator=generator)
            if kept is not None:
                _place(weight, kept, [axes[axis] for axis in AXES[module]])
        yield name, weight


# What the rows and the columns of each projection are.
AXES = {
    "embed_tokens": ("vocabulary", "hidden"),
    "lm_head": ("vocabulary", "hidden"),
    "q_proj": ("queries", "hidden"),
    "k_proj": ("keys", "hidden"),
    "v_proj": ("keys", "hidden"),
    "o_proj": ("hidden", "queries"),
    "gate_proj": ("feed-forward", "hidden"),
    "up_proj": ("feed-forward", "hidden"),
    "down_proj": ("hidden", "feed-forward"),
}


def _axes(old: PreTrainedConfig, new: PreTrainedConfig) -> Mapping[str, Axis]:
    size = _head_size(old)
    heads = torch.arange(old.num_attention_heads)
    # A query head stays with its key-value head, whose group has become larger.
    places = heads // _group_size(old) * _group_size(new) + heads % _group_size(old)
    queries = (places[:, None] * size + torch.arange(size)).flatten()
    channels = torch.arange(_num_copies(old, new) * old.hidden_size)
    return {
        "hidden": Axis(channels, channels % old.hidden_size),
        "queries": Axis(queries, torch.arange(len(queries))),
        "keys": _first(old.num_key_value_heads * size),
        "feed-forward": _first(old.intermediate_size),
        "vocabulary": _first(old.vocab_size),
    }


def _first(count: int) -> Axis:
    return Axis(torch.arange(count), torch.arange(count))


def _place(large: Tensor, small: Tensor, axes: list[Axis]) -> None:
    """Write the small weights [n, m], or biases [n], to their places."""
    if small.ndim == 1:
        large[axes[0].places] = small[axes[0].sources].to(large.dtype)
        return
    rows, columns = axes
    large[rows.places[:, None], columns.places] = small[rows.sources][:, columns.sources].to(large.dtype)


def _fill_norm(large: Tensor, small: Tensor | None, num_copies: int) -> None:
    """Weights of the copies that add up to the scaled ones; 1 for channels that are always 0."""
    large.fill_(1.0)
    if small is None:
        return
    rest = small.double() * (num_copies * len(small) / len(large)) ** 0.5
    for part in large[: num_copies * len(small)].view(num_copies, len(small)):
        part.copy_(rest)
        rest -= part.double()


def _num_copies(old: PreTrainedConfig, new: PreTrainedConfig) -> int:
    return min(MOST_COPIES, new.hidden_size // old.hidden_size)


def _group_size(config: PreTrainedConfig) -> int:
    return config.num_attention_heads // config.num_key_value_heads


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
