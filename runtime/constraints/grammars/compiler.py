"""Compiles grammars for one tokenizer; off the event loop, for it takes up to seconds."""

from collections import OrderedDict
from collections.abc import Collection
from functools import partial
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from ....controller.errors import SettingError, what_it_says
from ...text.tokenizer import Tokenizer
from .compiled import CompiledGrammar
from .matcher import make_matcher, on_deep_stack
from .source import Grammar, not_followed
from .trial import Limits, Trial

if TYPE_CHECKING:
    from llguidance import LLTokenizer

MOST_PASSED = 256  # grammars that are known to pass the trial
MOST_WAITING = 16  # under limits, the one that is being compiled among them


class CompilerBusyError(Exception):
    """Too many grammars wait to be compiled, or one has waited for long, or the compiler is closed."""


class GrammarCompiler:
    """May be asked from several threads: grammars are compiled one after another. Under `limits`, which those of
    strangers need, one that takes more is refused, and nobody waits for longer than one may take."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Collection[int], limits: Limits | None = None):
        self.end_tokens = frozenset(end_tokens)
        self._tokenizer = tokenizer
        self._of_tokenizer: LLTokenizer | None = None
        self._limits = limits
        self._trial = None if limits is None else Trial(limits, tokenizer.fast_json, end_tokens)
        self._passed: OrderedDict[Grammar, None] = OrderedDict()
        self._places = BoundedSemaphore(MOST_WAITING)
        self._compiling = Lock()

    def compile(self, grammar: Grammar) -> CompiledGrammar:
        """For the texts of one request. SettingError where the grammar cannot be followed; CompilerBusyError under
        limits alone."""
        if not self.end_tokens:
            raise SettingError(
                grammar.kind.value,
                "needs an end-of-text token, which ends the text where the grammar does, and this target has none; "
                "leave it out",
            )
        if self._limits is None:
            with self._compiling:
                return self._compile(grammar)
        if not self._places.acquire(blocking=False):
            raise CompilerBusyError
        try:
            if not self._compiling.acquire(timeout=self._limits.most_seconds):
                raise CompilerBusyError
            try:
                return self._compile(grammar)
            finally:
                self._compiling.release()
        finally:
            self._places.release()

    def close(self) -> None:
        """Under limits, let nobody wait any more; any thread may ask."""
        if self._trial is not None:
            self._trial.close()

    def _compile(self, grammar: Grammar) -> CompiledGrammar:
        tokenizer = self._grammar_tokenizer(grammar)
        if self._trial is not None and grammar not in self._passed:
            if not self._trial.passes(grammar):
                raise CompilerBusyError
            self._passed[grammar] = None
            if len(self._passed) > MOST_PASSED:
                self._passed.popitem(last=False)
        try:
            return CompiledGrammar(grammar.kind, on_deep_stack(partial(make_matcher, tokenizer, grammar)))
        except RuntimeError as error:
            raise not_followed(grammar.kind, str(error)) from error

    def _grammar_tokenizer(self, grammar: Grammar) -> "LLTokenizer":
        if self._of_tokenizer is None:
            from llguidance import LLTokenizer

            try:
                self._of_tokenizer = LLTokenizer(self._tokenizer.fast_json(), eos_token=sorted(self.end_tokens))
            except Exception as error:  # llguidance raises plain ones for a tokenizer that it cannot read
                says = f"cannot be followed with this target's tokenizer ({what_it_says(error)}); leave it out"
                raise SettingError(grammar.kind.value, says) from error
        return self._of_tokenizer
