"""A pair's models by the engine that its configuration asks for."""

from collections.abc import Mapping
from typing import NamedTuple

from ...controller.errors import InputError
from ..drafters.heads.base import DraftHead
from ..pair_config import LLAMACPP, REFERENCE, PairConfig
from ..text.tokenizer import Tokenizer
from .base import LoadedModel


class LoadedModels(NamedTuple):
    """A target and what drafts for it, with the tokenizer that they share."""

    target: LoadedModel
    source: LoadedModel | DraftHead
    tokenizer: Tokenizer
    end_tokens: frozenset[int]
    smaller: LoadedModel | None = None  # what drafts for the drafter, in a stack


def load_models(config: PairConfig, *, heads: bool) -> LoadedModels:
    """InputError in one sentence where a model cannot be loaded or decoded as a tree, where the tokenizers differ, and
    where the drafter is a head or a stack, unless `heads` are allowed."""
    if len(config.drafters) > 1 and not heads:
        raise InputError(
            f"drafter {config.drafter!r} is a stack, which drafts in `generate`, `serve` and `bench --measure.ahead` "
            "only; give one of its models"
        )
    if config.engine_name == LLAMACPP:
        from .llamacpp.pair import load_models
    else:
        from .transformers.pair import load_models
    return load_models(config, heads=heads)


def require_same_tokens(config: PairConfig, vocabulary: Mapping[str, int], other: Mapping[str, int]) -> None:
    """InputError unless a draft token means the same to target and drafter, whose vocabularies these are."""
    if vocabulary == other:
        return
    if config.drafter == REFERENCE:
        raise InputError(
            f"pair.drafter is not given, and the reference pair's has another tokenizer than target "
            f"{config.target!r}; give a drafter of the target's family"
        )
    raise InputError(
        f"target {config.target!r} and drafter {config.drafter!r} have different tokenizers "
        f"({len(vocabulary)} and {len(other)} tokens); a draft token must mean the same to both, so choose a "
        "drafter of the target's family"
    )
