"""The prompts of a call: the tokens of each row that its attention mask shows."""

import torch
from torch import Tensor

from ....controller.errors import InputError
from ...engines.base import CachedModel
from ...request import Request, check_request


def unpadded(input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None) -> list[list[int]]:
    """Token ids of each row of `input_ids` [B, L] without its padding, which comes first.

    InputError for a row without tokens, for padding anywhere else, and for positions that do not count the tokens.
    """
    shown = torch.ones_like(input_ids) if attention_mask is None else (attention_mask != 0).long().to(input_ids.device)
    if shown.shape != input_ids.shape:
        raise InputError(
            f"attention_mask is as large as the prompts, {tuple(input_ids.shape)}, got {tuple(shown.shape)}; a longer "
            "one belongs to a cache, which cannot be given"
        )
    counts = shown.sum(dim=1)
    if input_ids.shape[1] == 0 or (counts == 0).any():
        raise InputError("a prompt holds no token; give at least one in every row")
    if (shown.diff(dim=1) < 0).any():
        raise InputError(
            "attention_mask hides tokens behind shown ones; padding comes first (padding_side='left'), and holes in a "
            "prompt cannot be decoded"
        )
    counted = (shown.cumsum(dim=1) - 1).clamp_min(0)
    if position_ids is not None and not _agree(position_ids.to(input_ids.device), counted, shown):
        raise InputError("position_ids count the tokens of a prompt from 0, got others; leave them out")
    return [row[-count:] for row, count in zip(input_ids.tolist(), counts.tolist(), strict=True)]


def _agree(given: Tensor, counted: Tensor, shown: Tensor) -> bool:
    return given.shape == counted.shape and bool((given == counted)[shown.bool()].all())


def require_room(request: Request, model: CachedModel) -> None:
    """InputError for a prompt that does not fit the context with the tokens asked for, or holds unknown ones."""
    count = len(request.prompt_ids)
    if count + request.max_tokens > model.context_length:
        raise InputError(
            f"the prompt has {count} tokens and {request.max_tokens} more are asked for, but the model's context holds "
            f"{model.context_length}; shorten the prompt or lower max_new_tokens"
        )
    check_request(request, model.context_length, model.vocabulary_size)
