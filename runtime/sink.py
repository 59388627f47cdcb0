"""Where the decode loop puts the tokens of a request: a text stream, or anything else that counts them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..controller.trees.tree import Array, DraftTree


class TokenSink(Protocol):
    """Takes the generated tokens of one request."""

    token_ids: list[int]
    """All tokens taken: one list, which grows"""
    error: Exception | None
    """Why the request failed, if it did"""

    @property
    def remaining(self) -> int:
        """The most tokens it still takes; 0 once the request has ended or failed."""
        ...

    def append(self, tokens: Sequence[int]) -> int:
        """Take tokens up to the end of the request; how many of them were taken."""
        ...

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        ...


def emit(sinks: Sequence[TokenSink], tree: DraftTree, path: Array, next_tokens: Array) -> Array:
    """Append each accepted path and next token to its sink; [B] tokens taken.

    A sink that raises ends its own request alone.
    """
    counts = np.zeros(len(sinks), dtype=np.int64)
    lengths = (path >= 0).sum(axis=1).tolist()
    accepted = tree.tokens[np.arange(len(path))[:, None], path].tolist()
    for row, (sink, length, next_token) in enumerate(zip(sinks, lengths, next_tokens.tolist(), strict=True)):
        try:
            counts[row] = sink.append([*accepted[row][:length], next_token])
        except Exception as error:
            sink.fail(error)
    return counts
