"""Draft heads for the tiny models: folders in the formats of other libraries."""

import json

import tiny
import torch
from safetensors.torch import save_file
from treewright.runtime.drafters.heads.base import load_head
from treewright.runtime.pair import Pair, PairConfig
from treewright.runtime.target import Target

SIZE = tiny.SIZES["hidden_size"]
WIDE = 24  # of the head's MLP
HEADS, GROUPS, HEAD_SIZE = 4, 2, 8
LAYERS = [0, 1, 1]
# Draft token i is the target's token TOKENS[i].
TOKENS = list(range(1, tiny.VOCABULARY_SIZE, 2))


def eagle_settings(**changes):
    layer = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": tiny.VOCABULARY_SIZE,
        "hidden_size": SIZE,
        "intermediate_size": WIDE,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    }
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "transformer_layer_config": layer,
        "draft_vocab_size": len(TOKENS),
        "eagle_aux_hidden_state_layer_ids": LAYERS,
        "speculators_config": {"algorithm": "eagle3", "verifier": {"name_or_path": "tiny"}},
    } | changes


def eagle_weights(seed=0, tokens=TOKENS, num_states=len(LAYERS), norms=()):
    """Random ones; `norms` are those of the optional norms that the head has."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)

    layer = "layers.0."
    weights = {
        "embed_tokens.weight": draw(tiny.VOCABULARY_SIZE, SIZE),
        "fc.weight": draw(SIZE, num_states * SIZE),
        "norm.weight": 1 + draw(SIZE),
        "lm_head.weight": 3 * draw(len(tokens), SIZE),
        "d2t": torch.tensor(tokens) - torch.arange(len(tokens)),
        "t2d": torch.tensor([token in tokens for token in range(tiny.VOCABULARY_SIZE)]),
        f"{layer}input_layernorm.weight": 1 + draw(SIZE),
        f"{layer}hidden_norm.weight": 1 + draw(SIZE),
        f"{layer}post_attention_layernorm.weight": 1 + draw(SIZE),
        f"{layer}self_attn.q_proj.weight": draw(HEADS * HEAD_SIZE, 2 * SIZE),
        f"{layer}self_attn.k_proj.weight": draw(GROUPS * HEAD_SIZE, 2 * SIZE),
        f"{layer}self_attn.v_proj.weight": draw(GROUPS * HEAD_SIZE, 2 * SIZE),
        f"{layer}self_attn.o_proj.weight": draw(SIZE, HEADS * HEAD_SIZE),
        f"{layer}mlp.gate_proj.weight": draw(WIDE, SIZE),
        f"{layer}mlp.up_proj.weight": draw(WIDE, SIZE),
        f"{layer}mlp.down_proj.weight": draw(SIZE, WIDE),
    }
    if "norm_before_fc" in norms:
        weights["input_norm.weight"] = 1 + draw(num_states * SIZE)
    if "fc_norm" in norms:
        weights |= {f"fc_norm.{state}.weight": 1 + draw(SIZE) for state in range(num_states)}
    return weights


def write(folder, settings, weights, file="model.safetensors"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / file)
    return str(folder)


def head_pair(folder, target=None):
    """A pair with the head at `folder`, for a tiny target."""
    target = target or tiny.llama()
    config = PairConfig(target="tiny-target", drafter=folder, dtype="float64")
    return Pair(target, load_head(folder, target), tiny.words(), frozenset(), config)


def drafting(pair, scheme):
    """A target that keeps its hidden states, and the head's drafter beside it."""
    target = Target(pair.target, pair.head.hidden_layers)
    return target, pair.head.make_drafter(target, scheme)


def medusa_weights(num_heads=3, num_layers=2, seed=0):
    """Random ones, under the names of the public checkpoints."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for head in range(num_heads):
        for layer in range(num_layers):
            shapes = {"weight": (SIZE, SIZE), "bias": (SIZE,)}
            weights |= {f"{head}.{layer}.linear.{name}": shape for name, shape in shapes.items()}
        weights[f"{head}.{num_layers}.weight"] = (tiny.VOCABULARY_SIZE, SIZE)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in weights.items()}


def write_medusa(folder, weights, num_heads=3, num_layers=2):
    settings = {"medusa_num_heads": num_heads, "medusa_num_layers": num_layers, "base_model_name_or_path": "tiny"}
    return write(folder, settings, weights, "medusa_lm_head.safetensors")


def counting_target():
    """Behind token t comes t + 1. All hidden states of a token point where its row of the second answer [V, H] does."""
    target = tiny.llama()
    for layer in target.model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    embedding = target.model.model.embed_tokens.weight.data
    directions = embedding / embedding.norm(dim=-1, keepdim=True)
    target.model.lm_head.weight.data = directions.roll(1, dims=0)
    return target, directions
