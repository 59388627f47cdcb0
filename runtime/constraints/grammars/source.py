"""A grammar as a user writes it."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Self

from ....controller.errors import SettingError

MOST_LETTERS = 1 << 16
# Between the parts of JSON; small models would fill a text with them.
BLANKS = r"[ \t\r\n]{1,16}"


class GrammarKind(StrEnum):
    """By the name of the setting that gives one."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICES = "choices"
    GRAMMAR = "grammar"


class Grammar(NamedTuple):
    kind: GrammarKind
    text: str  # of choices, a grammar

    @classmethod
    def of_choices(cls, choices: Sequence[str]) -> Self:
        quoted = (json.dumps(choice, ensure_ascii=False) for choice in dict.fromkeys(choices))
        return cls(GrammarKind.CHOICES, "start: " + " | ".join(quoted))

    def translated(self) -> str:
        """For llguidance; InputError for what is too long to compile, or no grammar at first sight."""
        from llguidance import LLMatcher
        from llguidance.gbnf_to_lark import any_to_lark

        if len(self.text) > MOST_LETTERS:
            says = f"has {len(self.text)} characters, and up to {MOST_LETTERS} are taken; give a smaller one"
            raise SettingError(self.kind.value, says)
        if self.kind is GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(self.text)
        if self.kind is GrammarKind.CHOICES:
            return LLMatcher.grammar_from_lark(self.text)
        try:
            if self.kind is GrammarKind.JSON_SCHEMA:
                return LLMatcher.grammar_from_json_schema(self.text, overrides={"whitespace_pattern": BLANKS})
            return LLMatcher.grammar_from_lark(any_to_lark(self.text))
        except Exception as error:  # what the translators of llguidance raise has no base in common
            raise not_followed(self.kind, str(error)) from error


def not_followed(kind: GrammarKind, reason: str) -> SettingError:
    """The sentence about a grammar that cannot be compiled, by llguidance's `reason`."""
    words = " ".join(reason.split("\n<state>")[0].split())
    words = words if len(words) <= 240 else words[:240].rpartition(" ")[0] + " ..."
    return SettingError(kind.value, f"cannot be followed ({words}); correct it")
