"""Tokens that end a text are banned where they would come too early."""

from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from ...controller.trees.tree import Array
from .base import banned


class MinTokens:
    def __init__(self, least: int, end_tokens: Collection[int]):
        self._least = least
        self._end_tokens = np.array(sorted(end_tokens), dtype=np.int64)

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        if len(text) >= self._least:
            return logits
        (early,) = np.nonzero(len(text) + (paths >= 0).sum(axis=1) < self._least)
        return banned(logits, np.repeat(early, len(self._end_tokens)), np.tile(self._end_tokens, len(early)))
