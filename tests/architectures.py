"""Every family of causal language models that transformers builds small, and what comes of it here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedConfig

VOCABULARY_SIZE = 40
WINDOW = 4  # shorter than every text
TREES = "trees"  # decoded as trees, without padding
BLOCKS = "blocks"  # decoded as trees, in whole blocks
# Sentences of refusals.
LAYERS = "only attention to the whole text or to a window can be decoded as a tree"
STATES = "does not store its text as keys and values"
FAILS = "its forward over a tree fails"
OTHER_TEXT = "differ from the model's own"

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
# Of the configurations that have them.
PARTS: dict[str, Any] = {
    "head_dim": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {  # keys and values of different sizes, made of one vector
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
ALTERNATING = {"layer_types": 2 * MIXED["layer_types"]}
SLIDING = {"use_sliding_window": True, "max_window_layers": 1}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
STACK = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
STACKS = STACK | {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_n_groups": 1}
SHARED = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY_SIZE, "num_hidden_layers": 4}


class Family(NamedTuple):
    model_type: str
    outcome: str
    fields: Mapping[str, Any] = MappingProxyType({})


def rotary(kind: str, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **fields}}


def alike(outcome: str, names: str, **fields: Any) -> dict[str, Family]:
    return {name: Family(name, outcome, fields) for name in names.split()}


FAMILIES = (
    alike(
        TREES,
        "apertus arcee aria_text biogpt bitnet cohere ctrl diffllama ernie4_5 ernie4_5_moe flex_olmo fuyu gemma "
        "glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox granite granitemoe granitemoeshared helium hrm_text "
        "hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2 jetmoe llama minimax_m2 "
        "minimax_m3_vl_text ministral3 nanochat olmo olmo2 olmoe opt persimmon phi qwen2 qwen2_moe qwen3 qwen3_moe "
        "seed_oss smollm3 solar_open",
    )
    | alike(
        TREES, "afmoe beam cohere2 cohere2_moe cwm exaone4 exaone_moe gemma3_text kolibri1 modernbert-decoder olmo3"
    )
    | alike(TREES, "ministral mistral mixtral phi3 phimoe starcoder2", sliding_window=WINDOW)
    | alike(TREES, "dots1 laguna mellum", **MIXED)
    | alike(TREES, "flint gemma2 gpt_oss granite_swa granitemoe_swa mimo_v2_flash vaultgemma")
    | alike(TREES, "axk1 deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 youtu", **LATENT)
    | alike(BLOCKS, "doge nemotron stablelm")
    | alike(BLOCKS, "codegen gptj", rotary_dim=4, num_attention_heads=4)
    | alike(
        LAYERS,
        "bailing_hybrid inkling2_text inkling_text lfm3 llama4_text minimax nemotron_h olmo_hybrid qwen3_5_moe_text "
        "qwen3_5_text qwen3_next",
    )
    | alike(LAYERS, "axk2 deepseek_v32 glm_moe_dsa kimi_linear", **LATENT)
    | alike(STATES, "openai-gpt rwkv xlm")
    | alike(
        OTHER_TEXT,
        "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert mpt rembert roberta "
        "roberta-prelayernorm roformer xlm-roberta xlm-roberta-xl",
    )
    | alike(OTHER_TEXT, "bart blenderbot-small marian mbart pegasus plbart", **STACKS)
    | {
        "bert as a decoder": Family("bert", TREES, {"is_decoder": True}),
        "bloom": Family("bloom", FAILS),  # biases by the cache's rows; so has Falcon with ALiBi
        "falcon": Family("falcon", BLOCKS, {"multi_query": True}),
        "falcon, new": Family("falcon", BLOCKS, {"new_decoder_architecture": True, "num_kv_heads": 2}),
        "falcon, without grouped heads": Family("falcon", BLOCKS, {"multi_query": False, "parallel_attn": False}),
        "falcon, ALiBi": Family("falcon", FAILS, {"multi_query": False, "alibi": True}),
        "falcon_h1": Family("falcon_h1", LAYERS, MAMBA | {"mamba_d_ssm": 32, "mamba_d_head": 8}),
        "falcon_mamba": Family("falcon_mamba", LAYERS, {"state_size": 4}),
        "gemma3": Family("gemma3", TREES),
        "gemma3n_text": Family("gemma3n_text", TREES, SHARED | ALTERNATING | {"num_kv_shared_layers": 2}),
        "gemma4_text": Family("gemma4_text", TREES, {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}),
        "gemma4_text, shared": Family("gemma4_text", TREES, SHARED | ALTERNATING | {"num_kv_shared_layers": 2}),
        "gpt_neo": Family("gpt_neo", OTHER_TEXT, {"attention_types": [[["global", "local"], 1]], "window_size": 4}),
        "gpt_neo, global": Family("gpt_neo", BLOCKS, {"attention_types": [[["global"], 2]]}),
        "gpt_neox_japanese": Family("gpt_neox_japanese", FAILS),
        "granitemoehybrid": Family("granitemoehybrid", LAYERS, MAMBA | {"layer_types": ["mamba", "attention"]}),
        "jamba": Family("jamba", LAYERS, {"mamba_d_state": 4}),
        "lfm2": Family("lfm2", LAYERS, {"layer_types": ["conv", "full_attention"]}),
        "lfm2_moe": Family("lfm2_moe", LAYERS, {"layer_types": ["conv", "full_attention"]}),
        "llama4, full": Family("llama4_text", TREES, {"layer_types": ["full_attention"] * 2}),
        "llama, dynamic": Family("llama", TREES, rotary("dynamic", factor=4.0)),
        "llama, linear": Family("llama", TREES, rotary("linear", factor=4.0)),
        "llama, llama3": Family(
            "llama",
            TREES,
            rotary(
                "llama3", factor=4.0, original_max_position_embeddings=64, low_freq_factor=1.0, high_freq_factor=4.0
            ),
        ),
        "llama, yarn": Family("llama", TREES, rotary("yarn", factor=4.0, original_max_position_embeddings=64)),
        "mamba": Family("mamba", LAYERS, {"state_size": 4}),
        "mamba2": Family("mamba2", LAYERS, {"state_size": 4, "num_heads": 4, "head_dim": 16, "n_groups": 1}),
        "mistral, full": Family("mistral", TREES, {"sliding_window": None}),
        "phi3, longrope": Family(
            "phi3",
            TREES,
            {"original_max_position_embeddings": 64, "sliding_window": None}
            | rotary("longrope", short_factor=[1.0] * 4, long_factor=[4.0] * 4),
        ),
        "qwen2, sliding": Family("qwen2", TREES, SLIDING | {"sliding_window": WINDOW}),
        "qwen2_moe, sliding": Family("qwen2_moe", TREES, SLIDING | {"sliding_window": WINDOW}),
        "qwen3, sliding": Family("qwen3", TREES, SLIDING | {"sliding_window": WINDOW}),
        "qwen3_moe, sliding": Family("qwen3_moe", TREES, SLIDING | {"sliding_window": WINDOW}),
        "qwen3_5, full": Family("qwen3_5_text", TREES, {"layer_types": ["full_attention"] * 2}),
        "recurrent_gemma": Family("recurrent_gemma", LAYERS, {"num_hidden_layers": 3}),
        "smollm3, sliding": Family("smollm3", TREES, MIXED | {"use_sliding_window": True, "sliding_window": WINDOW}),
        "whisper": Family("whisper", OTHER_TEXT, STACKS),
        "xglm": Family("xglm", BLOCKS, {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48}),
    }
)


def small_config(family: Family) -> PreTrainedConfig:
    """With a window of a few tokens where there is one, and a layer of each kind."""
    if family.model_type == "gemma3":  # text is one of its parts
        text = SIZES | MIXED | {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": WINDOW}
        return AutoConfig.for_model("gemma3", text_config=text, vision_config=VISION)
    usual = AutoConfig.for_model(family.model_type)
    fields = SIZES | {name: value for name, value in PARTS.items() if name in vars(usual)}
    kinds = list(dict.fromkeys(vars(usual).get("layer_types") or []))
    if kinds:
        fields |= {"num_hidden_layers": max(2, len(kinds)), "layer_types": (kinds * 2)[: max(2, len(kinds))]}
    if vars(usual).get("sliding_window"):
        fields["sliding_window"] = WINDOW
    return AutoConfig.for_model(family.model_type, **{**fields, **family.fields})
