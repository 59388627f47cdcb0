"""The models of a pair, loaded by transformers."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from ....controller.errors import InputError
from ...drafters.heads.base import head_kind, load_head, no_model
from ...pair_config import DTYPES, PairConfig, resolved
from ..base import CachedModel
from ..loading import LoadedModels, require_same_tokens
from .loading import load_tokenizer
from .model import TransformersModel
from .page_tables import MOST_SLOTS
from .static import StaticModel
from .support import NotAsTreeError, num_rows
from .tokenizer import TransformersTokenizer

log = logging.getLogger(__name__)

# Of a device's free memory; graphs, logits and the rows of running forwards take what is left.
CACHE_SHARE = 0.8


def load_models(config: PairConfig, *, heads: bool) -> LoadedModels:
    """InputError as `loading` says."""
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {config.device!r} is asked for, but this machine has no CUDA; use device=cpu")
    target_name = resolved(config.target, "target")
    drafter_names = [resolved(name, "drafter") for name in config.drafters]
    drafter_name = drafter_names[-1]
    kind = head_kind(drafter_name)
    is_stack = len(drafter_names) > 1
    if kind is not None and (is_stack or not heads):
        raise no_model(config.drafter, kind)
    tokenizer = load_tokenizer(target_name)
    if kind is None:
        for name in drafter_names:
            require_same_tokens(config, tokenizer.get_vocab(), load_tokenizer(name).get_vocab())
    target = _open(target_name, config)
    # Ids may have holes, and added ones may lie beyond a model's rows; rows beyond the last id only pad a model.
    target.vocabulary_size = min(max(tokenizer.get_vocab().values()) + 1, num_rows(target.model))
    source = _open_drafter(drafter_name, config, target) if kind is None else load_head(drafter_name, target)
    smaller = _open_drafter(drafter_names[0], config, target) if is_stack else None
    size_caches([each for each in (target, source, smaller) if isinstance(each, StaticModel)], config.cache_tokens)
    ends = end_tokens(config.target, target.model, tokenizer)
    return LoadedModels(target, source, TransformersTokenizer(tokenizer), ends, smaller)


def _open_drafter(name: str, config: PairConfig, target: TransformersModel) -> TransformersModel:
    drafter = _open(name, config)
    if num_rows(drafter.model) < target.vocabulary_size:
        raise InputError(
            f"drafter {config.drafter!r} has rows for {num_rows(drafter.model)} tokens, but target {config.target!r} "
            f"generates {target.vocabulary_size} different ones; choose a drafter that knows all of them"
        )
    drafter.vocabulary_size = target.vocabulary_size
    return drafter


def _open(name: str, config: PairConfig) -> TransformersModel:
    """A model by folder or hub id. On a device kernel launches cost most, so shapes are few and captured; on a CPU
    padding does."""
    if config.device != "cpu":
        try:
            return StaticModel.from_pretrained(
                name,
                dtype=DTYPES[config.dtype],
                device=config.device,
                captures=config.graphs,
                compiles=config.graphs,
            )
        except NotAsTreeError as error:
            log.warning("%s runs without graphs, which is slower: %s", name, error)
    return TransformersModel.from_pretrained(name, dtype=DTYPES[config.dtype], device=config.device)


def size_caches(models: Sequence[StaticModel], num_tokens: int) -> None:
    """Memory for so many tokens of all requests together in the cache of each model; 0: for as many as fit."""
    if not models:
        return
    row_bytes = sum(model.row_bytes for model in models)
    free = torch.cuda.mem_get_info(models[0].device)[0]
    fitting = int(CACHE_SHARE * free) // row_bytes
    if num_tokens > fitting:
        raise InputError(
            f"pair.cache_tokens {num_tokens} take {num_tokens * row_bytes / 2**30:.1f} GiB, and the device has "
            f"{free / 2**30:.1f} GiB free; ask for {fitting} at most"
        )
    longest = max(model.context_length for model in models)
    for model in models:
        model.size(num_tokens or min(fitting, MOST_SLOTS * longest), longest)


def transformers_model(model: CachedModel, what: str) -> TransformersModel:
    """The same; InputError for a model of another engine, which `what` cannot be done with."""
    if not isinstance(model, TransformersModel):
        raise InputError(f"{what} takes models that transformers runs, not GGUF files; give their folders or hub ids")
    return model


def end_tokens(name: str, model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """In transformers' order: of the generation configuration, else of the model's, else of the tokenizer."""
    config, generation = model.config, model.generation_config
    for source in (generation, config, config.get_text_config(), tokenizer):
        ends = getattr(source, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else ends or []
        if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
            raise InputError(f"eos_token_id of {name!r} is a token id or a list of them, got {ends!r}; correct it")
        known = [end for end in ends if end >= 0]
        if known:
            return frozenset(known)
    return frozenset()
