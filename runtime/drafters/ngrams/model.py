"""What a text says about its own next token: n-gram counts of that one text, a cache language model.

A small drafter seldom notices that the text repeats itself; the target does. Kuhn and De Mori 1990 ("A cache-based
natural language model"), smoothed as by Witten and Bell 1991 ("The zero-frequency problem").
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
        self._num_counted = 0  # of the tokens: the others are counted when the text is asked
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        self._tokens += tokens

    def _count(self) -> None:
        tokens = self._tokens
        for end in range(self._num_counted, len(tokens)):
            token = tokens[end]
            for size in range(min(ORDER, end) + 1):
                counts = self._followers.setdefault(tuple(tokens[end - size : end]), {})
                counts[token] = counts.get(token, 0) + 1
        self._num_counted = len(tokens)

    def contexts(self, path: Sequence[int]) -> "Contexts":
        """What followed the ends of the text and of a drafted `path` behind it, until the text grows."""
        self._count()
        text = (*self._tokens[-ORDER:], *path)
        first = len(text) - len(path)
        known: list[Mapping[int, int]] = []
        totals: list[int] = []
        is_own = True
        for size in range(min(ORDER, len(text)) + 1):
            context = text[len(text) - size :]
            if not context or context in self._followers or self._datastore is None:
                counts = self._followers.get(context, {})
            else:
                counts, is_own = self._datastore.followers(context), False
            added = [text[end] for end in range(max(first, size), len(text)) if text[end - size : end] == context]
            if added:  # only the path adds these
                counts = dict(counts)
                for token in added:
                    counts[token] = counts.get(token, 0) + 1
            if not counts:
                break
            known.append(counts)
            totals.append(len(counts) + (sum(counts.values()) if size else len(self._tokens) + len(path)))
        # In the text itself, what followed anything is among its tokens, which are those behind the empty context.
        return Contexts(known, totals, known[0] if known and is_own else set().union(*known))


class Contexts(NamedTuple):
    """The last tokens of a text as contexts, by length, up to the longest that has been followed."""

    followers: Sequence[Mapping[int, int]]  # of each context, and how often they followed
    totals: Sequence[int]  # n_k + d_k of each
    seen: Collection[int]  # every token that is a follower of any

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

    def log_prob(self, token: int) -> float:
        prob = UNSEEN
        for counts, total in zip(self.followers, self.totals, strict=True):
            prob = (counts.get(token, 0) + len(counts) * prob) / total
        return log(prob)

    def forecast(self, count: int) -> "Forecast":
        """What can be said before a drafter has named fewer than `count` candidates."""
        tokens = self.expected(count)
        return Forecast(self, tokens, [self.log_prob(token) for token in tokens], self.log_prob(-1))


class Forecast(NamedTuple):
    """What a text expects, and says of it."""

    contexts: Contexts
    tokens: list[int]  # the most expected first
    log_probs: list[float]  # of those
    of_unseen: float  # log-probability of a token that is no follower

    @property
    def top_log_prob(self) -> float:
        """Of the longest context's most frequent follower, that of UNSEEN where there is none."""
        return self.log_probs[0] if self.tokens else log(UNSEEN)

    def besides(self, candidates: Sequence[int]) -> "Proposal":
        """What is said where a drafter has `candidates`."""
        contexts, of_unseen = self.contexts, self.of_unseen
        log_probs = [contexts.log_prob(token) if token in contexts.seen else of_unseen for token in candidates]
        for rank, token in enumerate(self.tokens):
            if token not in candidates:
                return Proposal(rank, [*log_probs, self.log_probs[rank]])
        return Proposal(-1, [*log_probs, of_unseen])


class Proposal(NamedTuple):
    """One more candidate of a node."""

    rank: int  # among the expected tokens, -1 where all of them are candidates
    log_probs: list[float]  # of the candidates, and of that one behind them
