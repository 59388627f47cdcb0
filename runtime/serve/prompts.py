"""Prompts that are far too long are refused by their characters, before they cost the time to tokenise them."""

from collections.abc import Callable, Iterable
from http import HTTPStatus

from .errors import ServeError


class BoundedEncode:
    """Tokenises a text; ServeError for one that has more characters than a context of the longest tokens, with a
    character between two of them."""

    def __init__(self, encode: Callable[[str], list[int]], vocabulary: Iterable[str], context_length: int):
        self._encode = encode
        self._context_length = context_length
        self.most_characters = context_length * (1 + max(map(len, vocabulary)))

    def __call__(self, text: str) -> list[int]:
        if len(text) > self.most_characters:
            raise ServeError(
                HTTPStatus.BAD_REQUEST,
                f"prompt: has {len(text)} characters, but the target's context, {self._context_length} tokens, holds "
                f"{self.most_characters} at most; shorten it",
                param="prompt",
                code="context_length_exceeded",
            )
        return self._encode(text)
