"""What a text says about its own next token: n-gram counts of that one text, a cache language model.

A small drafter seldom notices that the text repeats itself; the target does. Kuhn and De Mori 1990 ("A cache-based
natural language model"), smoothed as by Witten and Bell 1991 ("The zero-frequency problem").
"""

from collections.abc import Iterable, Sequence
from math import log
from typing import NamedTuple

from .datastore import ORDER, Datastore

# The chance of a token before any count is used.
UNSEEN = 1e-4


class NgramModel:
    """Counts of one text, kept up to date token by token.

    Where a context has never been followed in this text, the counts of a `datastore` are used.

    P_k(t) = (n_k(t) + d_k P_{k-1}(t)) / (n_k + d_k), where n_k(t) says how often t followed the text's last k tokens
    before, n_k is their sum over t, d_k the number of different followers, and P_{-1} = UNSEEN.
    """

    def __init__(self, tokens: Iterable[int] = (), datastore: Datastore | None = None):
        self._tokens: list[int] = []
        self._followers: dict[tuple[int, ...], dict[int, int]] = {}  # counts behind each context of up to ORDER tokens
        self._datastore = datastore
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            length = len(self._tokens)
            for size in range(min(ORDER, length) + 1):
                counts = self._followers.setdefault(tuple(self._tokens[length - size :]), {})
                counts[token] = counts.get(token, 0) + 1
            self._tokens.append(token)

    def candidates(self, path: Sequence[int], width: int) -> "tuple[list[int], Expectation]":
        """Up to `width` tokens expected behind the text and a drafted `path`, those of the longest context first, and
        what is said about them."""
        tokens: list[int] = []
        while (expected := self.behind(path, tokens)).token >= 0 and len(tokens) < width:
            tokens.append(expected.token)
        return tokens, expected

    def behind(self, path: Sequence[int], candidates: Sequence[int]) -> "Expectation":
        """What comes behind the text and a drafted `path`, where a drafter expects `candidates`."""
        text = (*self._tokens[-ORDER:], *path)
        first = len(text) - len(path)
        known: list[dict[int, int]] = []  # followers of each context that has any, and how often they followed
        for size in range(min(ORDER, len(text)) + 1):
            context = text[len(text) - size :]
            if not context or context in self._followers or self._datastore is None:
                counts = self._followers.get(context, {})
            else:
                counts = self._datastore.followers(context)
            added = [text[end] for end in range(max(first, size), len(text)) if text[end - size : end] == context]
            if added:  # only the path adds these
                counts = dict(counts)
                for token in added:
                    counts[token] = counts.get(token, 0) + 1
            if not counts:
                break
            known.append(counts)
        token = next((found for counts in known[:0:-1] if (found := _best_besides(counts, candidates)) >= 0), -1)
        top = max(known[-1], key=known[-1].__getitem__) if len(known) > 1 else -1
        tokens, probs = (*candidates, token, top), [UNSEEN] * (len(candidates) + 2)
        for size, counts in enumerate(known):
            distinct = len(counts)
            total = distinct + (sum(counts.values()) if size else len(self._tokens) + len(path))
            probs = [
                (counts.get(other, 0) + distinct * prob) / total for other, prob in zip(tokens, probs, strict=True)
            ]
        logs = [log(prob) for prob in probs]
        return Expectation(token, logs[:-1], logs[-1] if len(known) > 1 else log(UNSEEN))


class Expectation(NamedTuple):
    """What the text's own n-grams say about the next token."""

    token: int  # the most frequent follower of the longest context that has one besides the candidates, -1 if none has
    log_probs: list[float]  # of the candidates, and of `token` behind them
    top_log_prob: float  # of the longest context's most frequent follower, that of UNSEEN where nothing followed before


def _best_besides(counts: dict[int, int], candidates: Sequence[int]) -> int:
    """The most frequent token that is no candidate, -1 if there is none."""
    if len(counts) == 1:  # by far the most contexts
        (token,) = counts
        return -1 if token in candidates else token
    return max((token for token in counts if token not in candidates), key=counts.__getitem__, default=-1)
