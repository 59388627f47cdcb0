"""Tiny random models: exact in float64, quick, and sharing enough to accept some drafts."""

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from treewright.controller.contract import COUPLED
from treewright.controller.memory import MemoryConfig
from treewright.controller.policies.base import ShapePolicy
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.base import Drafter
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.drafters.memory import ErrorMemory
from treewright.runtime.engines.base import CachedModel
from treewright.runtime.engines.transformers.detokeniser import TokenizerDetokeniser
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.pair import transformers_model
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.engines.transformers.tokenizer import TransformersTokenizer
from treewright.runtime.pair import Pair, PairConfig
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target
from treewright.runtime.verification import get_verifier

VOCABULARY_SIZE = 40
SIZES: dict[str, Any] = {  # a configuration's other fields have other types
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}


def llama(
    seed: int = 0,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float64,
    positions: int = 256,
    device: str = "cpu",
) -> TransformersModel:
    """A random two-layer Llama with grouped-query attention; `noise` perturbs the weights of the same seed."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {**SIZES, "max_position_embeddings": positions}
    config = LlamaConfig(**sizes, num_key_value_heads=2, eos_token_id=None)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator).to(dtype)
    kind = TransformersModel if device == "cpu" else StaticModel
    return kind(model.to(device), VOCABULARY_SIZE)


FAMILIES = {
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=8),
    "mistral": MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=None),
    "gemma": GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=256),
}


def model_of(family: str, seed: int = 0) -> TransformersModel:
    """A random model of another architecture, float64."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(FAMILIES[family], attn_implementation="sdpa")
    return TransformersModel(model.to(torch.float64), VOCABULARY_SIZE)


def network(model: CachedModel) -> Any:
    """The model of transformers behind one that runs there."""
    return transformers_model(model, "this test").model


def tokenizer() -> Tokenizer:
    """One word per token: `w0`, `w1`, ..."""
    words = Tokenizer(WordLevel({f"w{token}": token for token in range(VOCABULARY_SIZE)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    return words


def detokeniser(tokens: Tokenizer | None = None) -> TokenizerDetokeniser:
    return TokenizerDetokeniser(tokens or tokenizer())


def words(tokens: Tokenizer | None = None) -> TransformersTokenizer:
    """As a pair has it."""
    return TransformersTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokens or tokenizer()))


def pair(drafter_noise: float = 0.02, name: str = "tiny") -> Pair:
    """A target and a drafter of the same seed."""
    config = PairConfig(target=f"{name}-target", drafter=f"{name}-drafter", dtype="float64")
    return Pair(llama(), llama(noise=drafter_noise), words(), frozenset(), config)


def decoder(
    target: CachedModel,
    drafter: TransformersModel | Drafter | None = None,
    selector: ShapePolicy | None = None,
    scheme=COUPLED,
    end_tokens: frozenset[int] = frozenset(),
    verifier: str = "walk",
    memory: MemoryConfig | None = None,
) -> Decoder:
    """`drafter` may be a model, which drafts under `scheme`, with a `memory` of its errors if one is given."""
    of_target = Target(target, num_kept=0 if memory is None else memory.window)
    if isinstance(drafter, TransformersModel):
        drafter = LanguageModelDrafter(
            drafter,
            scheme,
            ngrams=selector is not None and selector.limits.ngrams,
            memory=None if memory is None else ErrorMemory(memory, of_target),
        )
    return Decoder(
        of_target,
        get_verifier(verifier),
        detokeniser(),
        end_tokens,
        drafter=drafter,
        selector=selector,
    )


def requests(batch: int, temperature: float, max_tokens: int = 24, **sampling) -> list[Request]:
    """Prompts of different lengths, each with its own seed."""
    generator = torch.Generator().manual_seed(7)
    return [
        Request(
            torch.randint(0, VOCABULARY_SIZE, (3 + 2 * row,), generator=generator).tolist(),
            max_tokens,
            Sampling(temperature=temperature, seed=100 + row, **sampling),
        )
        for row in range(batch)
    ]
