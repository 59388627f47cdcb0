"""Words that a text may not hold, each as the tokens that it is spelled by.

The last of them is banned where the generated text ends with all the others. Another spelling of the same word is not.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from ...controller.trees.tree import Array
from .base import banned


class BadWords:
    def __init__(self, words: Collection[tuple[int, ...]]):
        self._ends: dict[tuple[int, ...], list[int]] = defaultdict(list)  # by the tokens before
        for word in words:
            self._ends[word[:-1]].append(word[-1])
        self._lengths = sorted({len(before) for before in self._ends})

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        longest = self._lengths[-1]
        end = [*text[len(text) - min(longest, len(text)) :]]
        rows: list[int] = []
        tokens: list[int] = []
        for row, path in enumerate(paths.tolist()):
            tail = [*end, *(token for token in path if token >= 0)]
            for length in self._lengths:
                if length <= len(tail):
                    ends = self._ends.get(tuple(tail[len(tail) - length :]), [])
                    rows += [row] * len(ends)
                    tokens += ends
        return banned(logits, np.array(rows, dtype=np.int64), np.array(tokens, dtype=np.int64))
