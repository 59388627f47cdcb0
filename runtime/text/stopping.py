"""When a text ends: end-of-text token, stop strings, token limit. A tree may run past the end; the text never does."""

from collections.abc import Collection, Mapping, Sequence
from traceback import clear_frames
from typing import NamedTuple

from ...controller.errors import InputError, SettingError
from ..log_probs import TextLogProbs
from .detokeniser import Detokeniser, IncrementalDetokeniser


class Stops(NamedTuple):
    """What ends a text besides its end tokens."""

    tokens: frozenset[int]
    strings: tuple[str, ...]

    @classmethod
    def of(cls, stop: Sequence[str], special: Mapping[str, int]) -> "Stops":
        """A stop string that is one of the `special` tokens also stops at that token; InputError for one that can
        never be found."""
        if not all(stop):
            raise SettingError("stop", "holds an empty string; give at least one character")
        for string in stop:
            for content in special:
                if content in string and string not in special:
                    raise SettingError(
                        "stop",
                        f"holds {string!r}, which has the special token {content!r} beside other text; special tokens "
                        f"are no part of the text, so it is never found; give {content!r} alone",
                    )
        return cls(frozenset(special[string] for string in stop if string in special), tuple(stop))


class TextStream:
    """The growing text of one request, a `TokenSink` (see `sink`): tokens go in, text that is final comes out.

    Text that may be the beginning of a stop string is held back until it is decided, and so are the first bytes of a
    character. A stop string itself, and what follows it, is never part of the text, unless it ends within the first
    `min_tokens`; nor is an end token, or any of the `silent` tokens, which are special. The text is what follows that
    of `prompt_ids`, a space between the two included.

    A request that fails leaves its text as it was, with an `error`.
    """

    def __init__(
        self,
        detokeniser: Detokeniser,
        *,
        max_tokens: int,
        end_tokens: Collection[int],
        stop: Sequence[str] = (),
        min_tokens: int = 0,
        prompt_ids: Sequence[int] = (),
        silent: Collection[int] = (),
        log_probs: TextLogProbs | None = None,
    ):
        if max_tokens < 0:
            raise InputError(f"max_tokens is at least 0, got {max_tokens}")
        self.token_ids: list[int] = []
        self.starts: list[int] = []  # of each token, the number of characters of the text before it
        self.log_probs = log_probs
        self.text = ""
        self.finish_reason: str | None = None  # "stop" or "length" once the text has ended
        self.error: Exception | None = None
        self._max_tokens = max_tokens
        self._min_tokens = min_tokens
        self._end_tokens = frozenset(end_tokens)
        self._stop = tuple(stop)
        self._detokeniser = IncrementalDetokeniser(detokeniser, prompt_ids, silent)
        self._num_sent = 0

    @property
    def remaining(self) -> int:
        """Tokens that may still be emitted; 0 once the text has ended or failed."""
        return 0 if self.has_ended else self._max_tokens - len(self.token_ids)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended or failed; one that takes no tokens ends once its prompt is read."""
        return self.finish_reason is not None or self.error is not None

    def append(self, tokens: Sequence[int]) -> int:
        """Take the next tokens up to the end of the text, which sets `finish_reason`; how many were taken."""
        num_before = len(self.token_ids)
        for token in tokens[: self.remaining]:
            if self.finish_reason is not None:
                break
            self.token_ids.append(token)
            self.starts.append(len(self.text))
            if token in self._end_tokens:
                self._finish("stop")
            else:
                self._append_text(self._detokeniser.append(token))
        if self.finish_reason is None and len(self.token_ids) == self._max_tokens:
            self._finish("length")
        return len(self.token_ids) - num_before

    def fail(self, error: Exception) -> None:
        """End the text with an error."""
        clear_frames(error.__traceback__)  # for lack of memory; its frames would hold that memory
        self.error = error

    def _append_text(self, piece: str) -> None:
        before = len(self.text)
        self.text += piece
        if len(self.token_ids) <= self._min_tokens:
            return
        ends = ((stop, max(0, before - len(stop) + 1)) for stop in self._stop)
        found = [index for index in (self.text.find(*end) for end in ends) if index >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.finish_reason = "stop"

    def _finish(self, reason: str) -> None:
        self._append_text(self._detokeniser.flush())
        self.finish_reason = self.finish_reason or reason

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
