"""A matcher of a grammar, made where there is room for it."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .source import Grammar, not_followed

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Rules that name each other in a long row are compiled by calls within calls: those of the longest grammar that is
# taken need 30 MB, and a thread that runs out of its stack would take the process with it.
STACK_BYTES = 256 << 20
# A tenth and a fifth of llguidance's own, which let a mask take seconds and a lexer hundreds of megabytes: rules that
# may go on at a place of a text, and states of a lexer. Schemas and grammars of real use take far less.
MOST_ITEMS = 5_000
MOST_STATES = 50_000

T = TypeVar("T")


def make_matcher(tokenizer: "LLTokenizer", grammar: Grammar) -> "LLMatcher":
    """A matcher at the beginning of a text; InputError where the grammar cannot be followed. It needs a deep stack."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(step_max_items=MOST_ITEMS, max_lexer_states=MOST_STATES)
    matcher = LLMatcher(tokenizer, grammar.translated(), log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()  # part of the grammar is only compiled now
    if matcher.is_error():
        raise not_followed(grammar.kind, matcher.get_error())
    return matcher


def on_deep_stack(make: Callable[[], T]) -> T:
    """What `make` returns or raises, on a thread of its own; RuntimeError for a panic, which is no Exception."""
    made: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    before = threading.stack_size(STACK_BYTES)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0] if isinstance(errors[0], Exception) else RuntimeError(str(errors[0])) from errors[0]
    return made[0]
