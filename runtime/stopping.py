"""When a text ends: end-of-text token, stop strings, token limit. A tree may run past the end; the text never does."""

from collections.abc import Collection, Sequence

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from ..controller.errors import InputError
from ..controller.tree import Array, DraftTree


class TextStream:
    """The growing text of one request; tokens go in one by one, safe text comes out.

    Text that may be the beginning of a stop string is held back until it is decided. A stop string itself, and what
    follows it, is never part of the text; nor is the end-of-text token.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int, end_tokens: Collection[int], stop: Sequence[str] = ()):
        if max_tokens < 1:
            raise InputError(f"max_tokens is at least 1, got {max_tokens}")
        if not all(stop):
            raise InputError("a stop string holds at least one character, got an empty one")
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None  # "stop" or "length" once the text has ended
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._end_tokens = frozenset(end_tokens)
        self._stop = tuple(stop)
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._num_sent = 0

    @property
    def remaining(self) -> int:
        """Tokens that may still be emitted; 0 once the text has ended."""
        return 0 if self.finish_reason else self._max_tokens - len(self.token_ids)

    def append(self, token: int) -> None:
        """Take the next token; afterwards `finish_reason` says whether the text has ended with it."""
        assert self.finish_reason is None, "a finished text takes no more tokens"
        self.token_ids.append(token)
        if token in self._end_tokens:
            self._finish("stop")
            return
        piece = self._decoder.step(self._tokenizer, token)
        if piece:
            self._append_text(piece)
        if self.finish_reason is None and len(self.token_ids) == self._max_tokens:
            self._finish("length")

    def _append_text(self, piece: str) -> None:
        searched = max(0, len(self.text) - max(map(len, self._stop), default=0))
        self.text += piece
        found = [place for place in (self.text.find(stop, searched) for stop in self._stop) if place >= 0]
        if found:
            self.text = self.text[: min(found)]
            self._finish("stop")

    def _finish(self, reason: str) -> None:
        self.finish_reason = reason

    def take(self) -> str:
        """The text decided since the last call."""
        end = len(self.text)
        if self.finish_reason is None:
            end -= self._undecided()
        piece = self.text[self._num_sent : end]
        self._num_sent = max(self._num_sent, end)
        return piece

    def _undecided(self) -> int:
        """Length of the longest tail of the text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-length:]) for stop in self._stop):
                return length
        return 0


def emit(streams: Sequence[TextStream], tree: DraftTree, path: Array, next_tokens: Array) -> Array:
    """Append each accepted path and next token to its text, up to the text's end; [B] tokens taken."""
    counts = np.zeros(len(streams), dtype=np.int64)
    for row, stream in enumerate(streams):
        accepted = path[row][path[row] >= 0]
        for token in (*tree.tokens[row, accepted].tolist(), int(next_tokens[row])):
            if not stream.remaining:
                break
            stream.append(token)
            counts[row] += 1
    return counts
