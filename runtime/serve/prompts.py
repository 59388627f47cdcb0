"""Prompts that are far too long are refused by their characters, before they cost the time to tokenise them."""

from collections.abc import Iterable
from http import HTTPStatus

from .errors import ServeError


class PromptLimit:
    """The most characters that a prompt may have: those of a context of the longest tokens of the vocabulary, with a
    character between two of them."""

    def __init__(self, vocabulary: Iterable[str], context_length: int):
        self._context_length = context_length
        self.most_characters = context_length * (1 + max(map(len, vocabulary)))

    def require(self, num_characters: int, field: str = "prompt") -> None:
        """ServeError that names the `field` for more."""
        if num_characters > self.most_characters:
            raise ServeError(
                HTTPStatus.BAD_REQUEST,
                f"{field}: has {num_characters} characters, but the target's context, {self._context_length} tokens, "
                f"holds {self.most_characters} at most; shorten it",
                param=field,
                code="context_length_exceeded",
            )
