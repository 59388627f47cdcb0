"""What a text says about its own next token: n-gram counts of that one text, a cache language model.

A small drafter seldom notices that the text repeats itself; the target does. Kuhn and De Mori 1990 ("A cache-based
natural language model"), smoothed as by Witten and Bell 1991 ("The zero-frequency problem").
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
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

    def contexts(self, path: Sequence[int]) -> "Contexts":
        """What followed the ends of the text and of a drafted `path` behind it, until the text grows."""
        text = (*self._tokens[-ORDER:], *path)
        first = len(text) - len(path)
        known: list[Mapping[int, int]] = []
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
        return Contexts(known, len(self._tokens) + len(path))


class Contexts(NamedTuple):
    """The last tokens of a text as contexts, by length, up to the longest that has been followed."""

    followers: Sequence[Mapping[int, int]]  # of each context, and how often they followed
    num_tokens: int  # of the text

    def expected(self, count: int) -> list[int]:
        """Up to `count` followers, those of the longest context first, the most frequent of each first."""
        found: list[int] = []
        for counts in self.followers[:0:-1]:
            # By far the most contexts have one.
            best = counts if len(counts) == 1 else nlargest(count, counts, key=counts.__getitem__)
            found += [token for token in best if token not in found]
            if len(found) >= count:
                return found[:count]
        return found

    def besides(self, candidates: Sequence[int], expected: Sequence[int]) -> "Proposal":
        """What is said where a drafter has `candidates`, and one more than those, if there are, is `expected`."""
        rank = next((rank for rank, token in enumerate(expected) if token not in candidates), -1)
        return Proposal(rank, *self.log_probs((*candidates, expected[rank] if rank >= 0 else -1)))

    def log_probs(self, tokens: Sequence[int]) -> tuple[list[float], float]:
        """Of the `tokens`, and of the longest context's most frequent follower, that of UNSEEN where there is none."""
        is_followed = len(self.followers) > 1
        top = max(self.followers[-1], key=self.followers[-1].__getitem__) if is_followed else -1
        asked, probs = (*tokens, top), [UNSEEN] * (len(tokens) + 1)
        for size, counts in enumerate(self.followers):
            distinct = len(counts)
            total = distinct + (sum(counts.values()) if size else self.num_tokens)
            probs = [(counts.get(token, 0) + distinct * prob) / total for token, prob in zip(asked, probs, strict=True)]
        logs = [log(prob) for prob in probs]
        return logs[:-1], logs[-1] if is_followed else log(UNSEEN)


class Proposal(NamedTuple):
    """One more candidate of a node."""

    rank: int  # among the expected tokens, -1 where all of them are candidates
    log_probs: list[float]  # of the candidates, and of that one behind them
    top_log_prob: float
