"""Compiles grammars for one tokenizer; off the event loop, for it takes up to seconds."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ....controller.errors import InputError, SettingError
from ...text.tokenizer import Tokenizer
from .source import Grammar, not_followed

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MOST_KEPT = 32  # compiled grammars
MOST_SECONDS = 10.0
# Rules that name each other in a long row are compiled by calls within calls: those of the longest grammar that is
# taken need 30 MB, and a thread that runs out of its stack would take the process with it.
STACK_BYTES = 256 << 20


class GrammarCompiler:
    """May be asked from several threads: grammars are compiled one after another."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Collection[int]):
        self.end_tokens = frozenset(end_tokens)
        self._tokenizer = tokenizer
        self._of_tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._compiling = threading.Lock()

    def compile(self, grammar: Grammar) -> "LLMatcher":
        """A matcher of the grammar at the beginning of a text, to be copied; InputError where there is none, and where
        it takes longer than `MOST_SECONDS` to make."""
        if not self.end_tokens:
            raise SettingError(
                grammar.kind.value,
                "needs an end-of-text token, which ends the text where the grammar does, and this target has none; "
                "leave it out",
            )
        kept = self._kept.get(grammar)
        if kept is not None:
            return kept
        if not self._compiling.acquire(timeout=MOST_SECONDS):
            raise SettingError(
                grammar.kind.value, "waits for other grammars to be compiled, and that takes long; try again later"
            )
        return _in_time(lambda: self._compile(grammar), self._compiling.release, grammar)

    def _compile(self, grammar: Grammar) -> "LLMatcher":
        from llguidance import LLMatcher

        if self._of_tokenizer is None:
            self._of_tokenizer = self._tokenizer.grammar_tokenizer(self.end_tokens)
        matcher = LLMatcher(self._of_tokenizer, grammar.translated(), log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # part of the grammar is only compiled now
        if matcher.is_error():
            raise not_followed(grammar.kind, matcher.get_error())
        self._kept[grammar] = matcher
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return matcher


def _in_time(compile_it: "Callable[[], LLMatcher]", release: Callable[[], None], grammar: Grammar) -> "LLMatcher":
    """What `compile_it` makes on a thread of its own, which is left to its end where it takes too long."""
    made: list[LLMatcher] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.append(compile_it())
        except BaseException as error:  # a panic of llguidance is no Exception
            errors.append(error)
        finally:
            release()

    thread = threading.Thread(target=run, name="grammar", daemon=True)
    before = threading.stack_size(STACK_BYTES)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(MOST_SECONDS)
    if made:
        return made[0]
    if not errors:
        raise SettingError(
            grammar.kind.value, f"takes longer than {MOST_SECONDS:g} s to compile; give a simpler or smaller one"
        )
    if isinstance(errors[0], InputError):
        raise errors[0]
    raise not_followed(grammar.kind, str(errors[0])) from errors[0]
