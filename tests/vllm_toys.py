"""Toy models in the formats that vLLM reads, and engines of them in this process."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

VOCABULARY_SIZE = 128
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "eos_token_id": None,
    "bos_token_id": None,
    "tie_word_embeddings": False,
}
WORKER = "treewright.runtime.adapters.vllm.worker.TreeWorker"
WHOLE_TREES = "treewright.runtime.adapters.vllm.best_first.TreeProposer"
BUDGET = 9


def write_model(folder, noise=0.0, num_layers=3, **sizes) -> str:
    """A random Llama with its tokenizer; `noise` perturbs the weights, which are of one seed."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES | sizes, num_hidden_layers=num_layers))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{token}": token for token in range(VOCABULARY_SIZE)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return str(folder)


def write_head(folder, kind: str) -> str:
    """A random EAGLE head of one layer: `eagle`, or `eagle3` behind the outputs of layers 1 and 2."""
    generator = torch.Generator().manual_seed(2)
    size, wide = SIZES["hidden_size"], SIZES["intermediate_size"]
    heads, groups, head = (SIZES[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    seen = 2 * size if kind == "eagle3" else size
    shapes = {
        "fc.weight": (size, 2 * size),
        "embed_tokens.weight": (VOCABULARY_SIZE, size),
        "layers.0.self_attn.q_proj.weight": (heads * head, seen),
        "layers.0.self_attn.k_proj.weight": (groups * head, seen),
        "layers.0.self_attn.v_proj.weight": (groups * head, seen),
        "layers.0.self_attn.o_proj.weight": (size, heads * head),
        "layers.0.mlp.gate_proj.weight": (wide, size),
        "layers.0.mlp.up_proj.weight": (wide, size),
        "layers.0.mlp.down_proj.weight": (size, wide),
    }
    norms = ["layers.0.post_attention_layernorm.weight"]
    if kind == "eagle3":
        shapes["lm_head.weight"] = (VOCABULARY_SIZE, size)
        norms += ["layers.0.input_layernorm.weight", "layers.0.hidden_norm.weight", "norm.weight"]
    weights = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights |= {name: torch.ones(size) for name in norms}
    config = SIZES | {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}
    config |= {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu"}
    if kind == "eagle3":
        config |= {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 2]}, "draft_vocab_size": VOCABULARY_SIZE}
        config["eagle_aux_hidden_state_layer_ids"] = [1, 2]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def prompts(count=12, longest=60) -> list[list[int]]:
    draw = random.Random(1)
    return [[draw.randrange(VOCABULARY_SIZE) for _ in range(draw.randrange(5, longest))] for _ in range(count)]


@contextmanager
def engine(model: str, **options) -> Iterator[Any]:
    """A vLLM engine in this process, of its own worker unless another is named."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1"}
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    given: dict[str, Any] = {
        "dtype": "float32", "enforce_eager": True, "max_model_len": 256, "block_size": 32, "max_num_seqs": 8,
    }  # fmt: skip
    llm = LLM(model=model, **given | {"seed": 0, "disable_log_stats": False} | options)
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()


def generate(llm, of_prompts: Sequence[Sequence[int]], **sampling) -> list[list[int]]:
    """The token ids of the texts, each with a seed of its own."""
    from vllm import SamplingParams

    settings: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60, "ignore_eos": True} | sampling
    params = [SamplingParams(seed=number, **settings) for number in range(len(of_prompts))]
    asked = [{"prompt_token_ids": list(prompt)} for prompt in of_prompts]
    return [list(output.outputs[0].token_ids) for output in llm.generate(asked, params, use_tqdm=False)]


def trees(method: str, model: str, drafter: str, **settings) -> dict[str, Any]:
    """The options of an engine that drafts trees; for `whole` by the product's own drafter."""
    speculative: dict[str, Any] = {"method": method, "model": drafter, "num_speculative_tokens": BUDGET}
    if method == "whole":
        speculative |= {"method": "custom_class", "model": WHOLE_TREES}
        settings |= {"drafter": drafter}
    return {
        "model": model,
        "worker_cls": WORKER,
        "speculative_config": speculative,
        "additional_config": {"treewright": settings},
    }
