"""Where the decode loop puts the tokens of a request: a text stream, or anything else that counts them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from ..controller.trees.tree import Array, DraftTree
from .log_probs import TextLogProbs
from .machine.transfer import to_device
from .verification.base import Verdict


class TokenSink(Protocol):
    """Takes the generated tokens of one request."""

    token_ids: list[int]
    """All tokens taken: one list, which grows"""
    error: Exception | None
    """Why the request failed, if it did"""
    log_probs: TextLogProbs | None
    """Takes those of the tokens, where they are asked for"""

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


def emit(sinks: Sequence[TokenSink], tree: DraftTree, rows: Tensor, verdict: Verdict) -> Array:
    """Append each accepted path and next token to its sink, with their log-probabilities by the target's logits `rows`
    [B, N, V] where it takes them; [B] tokens taken.

    A sink that raises ends its own request alone.
    """
    counts = np.zeros(len(sinks), dtype=np.int64)
    lengths, next_tokens = verdict.accepted_lengths.tolist(), verdict.next_tokens.tolist()
    accepted = tree.tokens[np.arange(len(sinks))[:, None], verdict.path].tolist()
    emitted = [[*accepted[row][:length], next_tokens[row]] for row, length in enumerate(lengths)]
    log_probs = [
        [] if sink.log_probs is None else sink.log_probs.judge(_rows_above(slot, rows, verdict), tokens)
        for slot, (sink, tokens) in enumerate(zip(sinks, emitted, strict=True))
    ]
    for row, (sink, tokens) in enumerate(zip(sinks, emitted, strict=True)):
        try:
            counts[row] = sink.append(tokens)
        except Exception as error:
            sink.fail(error)
        if sink.log_probs is not None:
            sink.log_probs.of_text += log_probs[row][: counts[row]]
    return counts


def _rows_above(slot: int, rows: Tensor, verdict: Verdict) -> Tensor:
    """[A + 1, V]: those that the accepted tokens of one tree and the next token were chosen by."""
    path = verdict.path[slot]
    nodes = np.concatenate((np.zeros(1, dtype=np.int64), path[path >= 0]))
    return rows[slot].index_select(0, to_device(nodes, rows.device))
