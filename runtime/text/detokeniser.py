"""From tokens to text, piece by piece: the pieces joined are what decoding prompt and text at once shows of the text.

What one token shows depends on its neighbours: bytes of one character may be spread over several tokens, and decoders
strip the space of the very first word. So each piece is what the tokens since the last one add to those before.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

# What decoders show for bytes that are no character, or not yet one.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Tokens that may wait for the rest of a character before they are split: a character has at most four bytes, so a
# longer run is none, and decoding all of it again for each token would take ever longer.
MOST_WAITING = 8


class Detokeniser(Protocol):
    """An engine's way from tokens to text."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that are no part of a text, by their spelling in a prompt."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text that begins with these tokens; special tokens show nothing, incomplete characters as
        `REPLACEMENT`."""
        ...


class IncrementalDetokeniser:
    """The tokens of one text, which continues a prompt; special tokens show nothing.

    For byte-level tokenizers the joined pieces are exact for every sequence of bytes. Tokenizers with byte fallback
    show a run of bytes as replacement characters throughout if one of them is wrong, be it the last; here a character
    that was shown stays, and the bytes since then are decoded by themselves.

    `silent` tokens are known to show nothing and are not decoded.
    """

    def __init__(self, detokeniser: Detokeniser, prompt_ids: Sequence[int] = (), silent: Collection[int] = ()):
        self._decode = detokeniser.decode
        self._silent = silent
        self._ids = self._end_of(prompt_ids)
        self._num_shown = self._num_whole()
        # What decoding the tokens shown gives: the context of those that wait.
        self._shown = self._decode(self._ids[: self._num_shown])
        # Of a prompt that ends inside a character, what it shows of that: the text does not show it again.
        self._of_prompt = self._waiting(len(self._ids))

    def append(self, token: int) -> str:
        """What `token` shows, with what waited for it; nothing while it may be part of an unfinished character."""
        if token in self._silent:
            return ""
        self._ids.append(token)
        piece, count = self._waiting(len(self._ids)), len(self._ids)
        if piece.endswith(REPLACEMENT):
            count = self._num_certain()
            piece = self._waiting(count)
        return self._show(piece, count)

    def flush(self) -> str:
        """What still waits, at the end of the text: unfinished characters as decoding shows them."""
        return self._show(self._waiting(len(self._ids)), len(self._ids))

    def _end_of(self, prompt_ids: Sequence[int]) -> list[int]:
        """As few of the last tokens as show a character, so that later ones do not begin a text."""
        count = 4
        while count < len(prompt_ids) and not self._decode(prompt_ids[-count:]).strip(REPLACEMENT):
            count *= 2
        return list(prompt_ids[-count:])

    def _num_whole(self) -> int:
        """How many of the tokens end with a whole character: all but the last few, or none."""
        for count in range(len(self._ids), max(0, len(self._ids) - MOST_WAITING), -1):
            if not self._decode(self._ids[:count]).endswith(REPLACEMENT):
                return count
        return 0

    def _num_certain(self) -> int:
        """Number of tokens that no later one can change, where the last ones may be part of a character."""
        ids = self._ids
        if len(ids) - self._num_shown <= MOST_WAITING:
            return self._num_shown
        # A split is possible where both parts, decoded alone, show the same.
        whole = self._decode(ids)
        for count in range(len(ids) - 1, self._num_shown, -1):
            if self._decode(ids[:count]) + self._decode(ids[count:]) == whole:
                return count
        return self._num_shown

    def _waiting(self, count: int) -> str:
        """What the first `count` tokens show behind what has been shown."""
        text = self._decode(self._ids[:count])
        if text.startswith(self._shown):
            return text[len(self._shown) :]
        # A later byte has changed what was shown.
        return self._decode(self._ids[self._num_shown : count])

    def _show(self, piece: str, num_tokens: int) -> str:
        """`piece`, which the first `num_tokens` tokens show, less what the prompt showed of it; they count as shown."""
        if piece:
            self._ids, self._num_shown = self._ids[self._num_shown :], num_tokens - self._num_shown
            self._shown = self._decode(self._ids[: self._num_shown])
        count = _num_common(piece, self._of_prompt)
        self._of_prompt = self._of_prompt[count:] if count == len(piece) else ""
        return piece[count:]


def _num_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    differing = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
