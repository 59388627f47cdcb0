"""What followed which tokens in older texts: retrieval, as in RASD (arXiv:2503.03434) and REST (arXiv:2311.08252)."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from ....controller.trees.tree import Array

# The longest context whose followers are counted, in tokens, here and of the text itself.
ORDER = 3


class Datastore:
    """The n-grams of many texts as a trie in sorted arrays, a level per length.

    An n-gram is coded as the number of its first n - 1 tokens on their level, times the vocabulary size, plus its
    last token. So the followers of a context are adjacent on the next level, and a million tokens take a second.
    """

    def __init__(self, levels: Sequence[tuple[Array, Array]], vocabulary_size: int):
        # Of 1, 2, ... tokens: the different n-grams, ascending, and how often each occurs. A view of memory is
        # searched for one number in a tenth of the time that numpy takes.
        self._levels = [(grams.data, counts.data) for grams, counts in levels]
        self._vocabulary_size = vocabulary_size

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]]) -> Self:
        """Of texts of tokens, none of which continues in the next."""
        parts = [np.asarray(text, dtype=np.int64) for text in texts]
        tokens = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        places = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(len(part)) for part in parts)])
        vocabulary_size = int(tokens.max(initial=0)) + 1
        before = np.zeros_like(tokens)  # number of the n - 1 tokens before each
        levels = []
        for size in range(1, ORDER + 2):
            ends = np.nonzero(places >= size - 1)[0]
            grams, numbers, counts = np.unique(
                before[ends] * vocabulary_size + tokens[ends], return_inverse=True, return_counts=True
            )
            levels.append((grams, counts))
            before = np.zeros_like(tokens)
            goes_on = ends + 1 < len(tokens)
            before[ends[goes_on] + 1] = numbers[goes_on]
        return cls(levels, vocabulary_size)

    def followers(self, context: Sequence[int]) -> dict[int, int]:
        """How often each token followed a context of one to `ORDER` tokens."""
        number = 0
        for (grams, _), token in zip(self._levels, context, strict=False):
            gram = number * self._vocabulary_size + token
            number = bisect_left(grams, gram)
            if token >= self._vocabulary_size or number == len(grams) or grams[number] != gram:
                return {}
        grams, counts = self._levels[len(context)]
        first, behind = (bisect_left(grams, end * self._vocabulary_size) for end in (number, number + 1))
        tokens = [gram - number * self._vocabulary_size for gram in grams[first:behind]]
        return dict(zip(tokens, counts[first:behind], strict=True))
