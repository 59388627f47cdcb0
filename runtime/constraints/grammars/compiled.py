"""A grammar that is compiled for the texts of one request.

Its matchers share a lexer, which keeps the states that they come to. Once these are more than llguidance allows, all of
them err; so no other request has it.
"""

from typing import TYPE_CHECKING, NamedTuple

from ....controller.errors import SettingError
from .source import GrammarKind

if TYPE_CHECKING:
    from llguidance import LLMatcher


class CompiledGrammar(NamedTuple):
    kind: GrammarKind
    root: "LLMatcher"  # at the beginning of a text, from where it is never moved

    def dead_end(self, matcher: "LLMatcher") -> SettingError:
        """The error of a text that can go no further, by its matcher."""
        reason = matcher.get_error().split("\n")[0]
        reason = reason if " " in reason else "nothing can follow the text"  # a code says less
        return SettingError(self.kind.value, f"has come to a dead end ({reason}); correct it")


def mask_of(matcher: "LLMatcher") -> bytes | None:
    """The tokens that are allowed behind the text of a matcher, a bit each, the lowest first; None where there are none
    to be had."""
    mask = matcher.compute_bitmask()
    return None if matcher.is_error() else mask
