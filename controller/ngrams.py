"""What a text says about its own next token: n-gram counts of that one text, a cache language model.

A small drafter seldom notices that the text repeats itself; the target does. Kuhn and De Mori 1990 ("A cache-based
natural language model"), smoothed as by Witten and Bell 1991 ("The zero-frequency problem").
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import log

import numpy as np

from .tree import Array, DraftTree

# Columns of a node: its token as the next one of the text and the path above it, and the token expected there.
NGRAMS = ("ngram_log_prob", "ngram_top_log_prob")
# The longest context whose followers are counted, in tokens.
ORDER = 3
# The chance of a token before any count is looked at.
UNSEEN = 1e-4


class NgramModel:
    """Counts of one text, kept up to date token by token.

    P_k(t) = (n_k(t) + d_k P_{k-1}(t)) / (n_k + d_k), where n_k(t) says how often t followed the text's last k tokens
    before, n_k is their sum over t, d_k the number of different followers, and P_{-1} = UNSEEN.
    """

    def __init__(self, tokens: Iterable[int] = ()):
        self._tokens: list[int] = []
        self._followers: dict[tuple[int, ...], dict[int, int]] = {}  # counts behind each context of up to ORDER tokens
        self.extend(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            for context in self._contexts():
                counts = self._followers.setdefault(context, {})
                counts[token] = counts.get(token, 0) + 1
            self._tokens.append(token)

    def drop(self, count: int) -> None:
        """Forget the last `count` tokens."""
        for _ in range(count):
            token = self._tokens.pop()
            for context in self._contexts():
                counts = self._followers[context]
                counts[token] -= 1
                if not counts[token]:
                    del counts[token]
                if not counts:  # else every path ever drafted would leave its contexts behind
                    del self._followers[context]

    def log_probs(self, tokens: Sequence[int]) -> tuple[list[float], float]:
        """Of each of `tokens` as the next one, and of the most frequent follower of the longest context seen before:
        that of UNSEEN where the last token stands in the text for the first time."""
        probs = [UNSEEN] * (len(tokens) + 1)
        known = [(context, counts) for context in self._contexts() if (counts := self._followers.get(context))]
        top = max(known[-1][1], key=known[-1][1].__getitem__) if len(known) > 1 else -1
        for context, counts in known:
            # Each time the context stood there, but for now; sums over the followers would take their number.
            total = self._followers[context[:-1]][context[-1]] - 1 if context else len(self._tokens)
            distinct = len(counts)
            probs = [
                (counts.get(token, 0) + distinct * prob) / (total + distinct)
                for token, prob in zip((*tokens, top), probs, strict=True)
            ]
        logs = [log(prob) for prob in probs]
        return logs[:-1], logs[-1] if len(known) > 1 else log(UNSEEN)

    def _contexts(self) -> Iterator[tuple[int, ...]]:
        """The last 0, 1, ... ORDER tokens."""
        length = len(self._tokens)
        return (tuple(self._tokens[length - size :]) for size in range(min(ORDER, length) + 1))


def node_ngrams(tree: DraftTree, texts: Sequence[NgramModel], first: int = 0) -> Array:
    """[B, N - first, 2] float32, see NGRAMS, of the nodes from `first` on; 0 at the roots and at padding.

    Each of `texts` [B] ends with its tree's root, and does so again when this returns.
    """
    values = np.zeros((len(texts), tree.tokens.shape[1] - first, len(NGRAMS)), dtype=np.float32)
    for row, text in enumerate(texts):
        tokens, parents = tree.tokens[row].tolist(), tree.parents[row].tolist()
        drafted = range(max(first, 1), int(tree.num_nodes[row]))
        for parent, siblings in groupby(drafted, key=parents.__getitem__):
            nodes, path, above = list(siblings), [], parent
            while above:
                path.append(tokens[above])
                above = parents[above]
            text.extend(reversed(path))
            log_probs, top = text.log_probs([tokens[node] for node in nodes])
            text.drop(len(path))
            values[row, nodes[0] - first : nodes[-1] + 1 - first] = [(log_prob, top) for log_prob in log_probs]
    return values
