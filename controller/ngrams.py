"""What a text says about its own next token: n-gram counts of that one text, a cache language model.

A small drafter seldom notices that the text repeats itself; the target does. Kuhn and De Mori 1990 ("A cache-based
natural language model"), smoothed as by Witten and Bell 1991 ("The zero-frequency problem").
"""

from collections.abc import Iterable, Sequence
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
            length = len(self._tokens)
            for size in range(min(ORDER, length) + 1):
                counts = self._followers.setdefault(tuple(self._tokens[length - size :]), {})
                counts[token] = counts.get(token, 0) + 1
            self._tokens.append(token)

    def log_probs(self, tokens: Sequence[int], path: Sequence[int] = ()) -> tuple[list[float], float]:
        """Behind the text and a drafted `path`: of each of `tokens` as the next one, and of the most frequent follower
        of the longest context seen before, that of UNSEEN where the last token was never followed."""
        text = (*self._tokens[-ORDER:], *path)
        first = len(text) - len(path)
        # Of each context that has followers: their counts in the text, and those that only the path adds.
        known: list[tuple[dict[int, int], list[int]]] = []
        for size in range(min(ORDER, len(text)) + 1):
            context = text[len(text) - size :]
            counts = self._followers.get(context, {})
            added = [text[end] for end in range(max(first, size), len(text)) if text[end - size : end] == context]
            if not counts and not added:
                break
            known.append((counts, added))
        top = _most_frequent(*known[-1]) if len(known) > 1 else -1
        probs = [UNSEEN] * (len(tokens) + 1)
        for size, (counts, added) in enumerate(known):
            total = (sum(counts.values()) if size else len(self._tokens)) + len(added)
            distinct = len(counts) + len(set(added).difference(counts))
            probs = [
                (counts.get(token, 0) + added.count(token) + distinct * prob) / (total + distinct)
                for token, prob in zip((*tokens, top), probs, strict=True)
            ]
        logs = [log(prob) for prob in probs]
        return logs[:-1], logs[-1] if len(known) > 1 else log(UNSEEN)


def _most_frequent(counts: dict[int, int], added: Sequence[int]) -> int:
    if added:
        counts = dict(counts)
        for token in added:
            counts[token] = counts.get(token, 0) + 1
    return max(counts, key=counts.__getitem__)


def node_ngrams(tree: DraftTree, texts: Sequence[NgramModel], first: int = 0) -> Array:
    """[B, N - first, 2] float32, see NGRAMS, of the nodes from `first` on; 0 at the roots and at padding.

    Each of `texts` [B] ends with its tree's root.
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
            log_probs, top = text.log_probs([tokens[node] for node in nodes], path[::-1])
            values[row, nodes[0] - first : nodes[-1] + 1 - first] = [(log_prob, top) for log_prob in log_probs]
    return values
