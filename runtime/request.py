"""A request to the decode loop: one prompt to continue."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..controller.errors import InputError
from ..controller.ranges import require_whole
from .processing import RowProcessor
from .sampling import Sampling


@dataclass(frozen=True)
class Request:
    """One prompt to continue, of at least one token."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    ignore_end: bool = False  # continue past the end-of-text token
    processor: RowProcessor | None = None  # of the logits, before they are warped and tokens drawn
    scope: str = ""  # such as a client's: what was read of a prompt is reused in its own scope alone


def check_request(request: Request, context_length: int, vocabulary_size: int) -> None:
    """InputError for an empty prompt, for one with a token that the models have no row for, or for one that does not
    fit the context with the tokens asked for."""
    if len(request.prompt_ids) == 0:
        raise InputError("the prompt is empty; give at least one token")
    if min(request.prompt_ids) < 0:
        raise InputError(f"the prompt holds the token id {min(request.prompt_ids)}; ids begin with 0")
    if max(request.prompt_ids) >= vocabulary_size:
        raise InputError(
            f"the prompt holds the token id {max(request.prompt_ids)}, but the models have rows up to "
            f"{vocabulary_size - 1} only; leave added tokens out of it"
        )
    require_whole("max_tokens", request.max_tokens)
    if len(request.prompt_ids) + request.max_tokens > context_length:
        raise InputError(
            f"the prompt has {len(request.prompt_ids)} tokens and {request.max_tokens} more are asked for, but the "
            f"target's context holds {context_length}; shorten the prompt or lower max_tokens"
        )
