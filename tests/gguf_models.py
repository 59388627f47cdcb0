"""Tiny models as GGUF files, run by llama.cpp: Llamas of tokens of a byte or two, written by our own export."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.engines.llamacpp.export.file import write_gguf
from treewright.runtime.engines.llamacpp.loading import load_model
from treewright.runtime.engines.llamacpp.model import LlamaCppModel
from vocabularies import byte_level

END, TURN = "<end>", "<turn>"
VOCABULARY_SIZE = 259  # every byte, a pair of them, and these two
POSITIONS = 256


def bpe() -> Tokenizer:
    """GPT-2's kind, with one merge: llama.cpp reads none without."""
    tokenizer = byte_level()
    letters = tokenizer.get_vocab()
    tokenizer.model = BPE(letters | {"ab": len(letters)}, [("a", "b")])
    return tokenizer


def tokens(template: str | None = None, tokenizer: Tokenizer | None = None) -> Any:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer or bpe(), bos_token=END, eos_token=END)
    fast.add_special_tokens({"additional_special_tokens": [TURN]})
    fast.chat_template = template
    return fast


def network(noise: float = 0.0, rows: int = VOCABULARY_SIZE, **changes: Any) -> LlamaForCausalLM:
    """A random Llama of two layers, in float32; `noise` perturbs the weights, which have one seed."""
    torch.manual_seed(0)
    sizes: Any = {"vocab_size": rows, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.3}
    model = LlamaForCausalLM(LlamaConfig(**sizes | {"max_position_embeddings": POSITIONS} | changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    return model.eval()


def written(
    folder: Path, model: LlamaForCausalLM, number_format: str = "f32", *, name: str = "model", fast: Any = None
) -> str:
    path = folder / f"{name}.gguf"
    write_gguf(path, name, model, fast or tokens(), [257], number_format)
    return str(path)


@cache
def files() -> tuple[str, str]:
    """A target and a drafter, made once."""
    folder = Path(tempfile.mkdtemp())
    return written(folder, network(), name="target"), written(folder, network(0.02), name="drafter")


def models(**options: Any) -> tuple[LlamaCppModel, LlamaCppModel]:
    target, drafter = (load_model(file, LlamaCppConfig(**options)) for file in files())
    return target, drafter
