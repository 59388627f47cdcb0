"""Single tokens as texts, for those who read log-probabilities."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from ..text.detokeniser import REPLACEMENT, Detokeniser, IncrementalDetokeniser

MOST_KEPT = 1 << 16
LEAST_LOG_PROB = -9999.0  # JSON has no infinity


class TokenTexts:
    def __init__(self, detokeniser: Detokeniser):
        self.detokeniser = detokeniser
        self._special = {token: text for text, token in detokeniser.special_tokens.items()}
        self.of = lru_cache(MOST_KEPT)(self._of)

    def _of(self, token: int) -> str:
        """What a token shows behind others, the space before it included; a special token's spelling."""
        if token in self._special:
            return self._special[token]
        decode = self.detokeniser.decode
        once, twice = decode([token]), decode([token, token])
        return twice.removeprefix(once) if twice.startswith(once) else once

    def content(self, token: int) -> list[int] | None:
        """The bytes of what it shows; None where it shows a part of a character only."""
        text = self.of(token)
        return None if REPLACEMENT in text else [*text.encode()]

    def starts(self, token_ids: Sequence[int]) -> list[int]:
        """[n] the number of characters that a text of these tokens shows before each."""
        text = IncrementalDetokeniser(self.detokeniser)
        ends = accumulate(len(text.append(token)) for token in token_ids)
        return [0, *ends][: len(token_ids)]


def finite(log_prob: float) -> float:
    """As JSON can hold it."""
    return max(LEAST_LOG_PROB, log_prob)
