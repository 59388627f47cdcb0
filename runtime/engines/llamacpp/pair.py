"""The models of a pair, loaded by llama.cpp."""

from ...pair_config import PairConfig
from ..loading import LoadedModels, require_same_tokens
from .loading import load_model
from .vocabulary import GgufTokenizer


def load_models(config: PairConfig, *, heads: bool) -> LoadedModels:
    """InputError as `loading` says; no head is ever read, for llama.cpp gives no hidden states of a tree."""
    target = load_model(config.target, config.llamacpp)
    drafter = load_model(config.drafter, config.llamacpp)
    tokenizer = GgufTokenizer(target.context)
    require_same_tokens(config, tokenizer.vocabulary, GgufTokenizer(drafter.context).vocabulary)
    return LoadedModels(target, drafter, tokenizer, tokenizer.end_tokens)
