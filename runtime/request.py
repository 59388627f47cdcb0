"""A request to the decode loop: one prompt to continue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..controller.errors import InputError, SettingError
from ..controller.policies.base import ShapePolicy
from ..controller.ranges import require_whole
from .processing import Reach, RowProcessor
from .sampling import Sampling
from .stats import StepRecord
from .text.stopping import Stops

# Sees each step of its request, with the request's row in the batch, on the thread that decodes.
RowObserver = Callable[[StepRecord, int], None]


@dataclass(frozen=True)
class Request:
    """One prompt to continue, of at least one token. With `max_tokens` 0 it is only read."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    ignore_end: bool = False  # continue past the end-of-text token
    stop_tokens: frozenset[int] = frozenset()  # end the text as well
    min_tokens: int = 0  # until it has so many, no stop string ends the text; of tokens, the processor bans those
    processor: RowProcessor | None = None  # of the logits, before they are warped and tokens drawn
    reach: Reach | None = None  # where the processor may leave no token to draw, how far a path may be taken
    log_probs: int | None = None
    """Report the log-probability of each token, and of so many of the likeliest in its place; None for neither"""
    prompt_log_probs: bool = False  # those of the prompt's tokens, too
    speculates: bool = True  # else nothing is drafted for it
    policy: ShapePolicy | None = None  # drafts for it in place of the loop's, under the walk
    observer: RowObserver | None = None
    scope: str = ""  # such as a client's: what was read of a prompt is reused in its own scope alone

    def end_tokens(self, of_model: frozenset[int], stops: Stops) -> frozenset[int]:
        """All tokens that end the text."""
        return stops.tokens | self.stop_tokens | (frozenset() if self.ignore_end else of_model)


class ContextError(InputError):
    """The prompt and the tokens asked for do not fit the target's context."""


def check_request(request: Request, context_length: int, vocabulary_size: int) -> None:
    """InputError for an empty prompt or one with a token that the models have no row for; ContextError for one that
    does not fit the context with the tokens asked for."""
    if len(request.prompt_ids) == 0:
        raise SettingError("prompt", "is empty; give at least one token")
    if min(request.prompt_ids) < 0:
        raise SettingError("prompt", f"holds the token id {min(request.prompt_ids)}; ids begin with 0")
    if max(request.prompt_ids) >= vocabulary_size:
        raise SettingError(
            "prompt",
            f"holds the token id {max(request.prompt_ids)}, but the models have rows up to {vocabulary_size - 1} only; "
            "leave added tokens out of it",
        )
    require_whole("max_tokens", request.max_tokens)
    if request.min_tokens > request.max_tokens:
        raise SettingError(
            "min_tokens",
            f"is {request.min_tokens}, but the text has at most {request.max_tokens} tokens (max_tokens); lower it",
        )
    if len(request.prompt_ids) + request.max_tokens > context_length:
        raise ContextError(
            f"the prompt has {len(request.prompt_ids)} tokens and {request.max_tokens} more are asked for, but the "
            f"target's context holds {context_length}; shorten the prompt or lower max_tokens"
        )
