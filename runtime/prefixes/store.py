"""The store of prefixes: what the models of a decode loop have read of texts, for later texts that begin alike.

A system prompt, or the turns of a chat so far, is read by the first request that has it. Cache rows are a function of
the tokens up to theirs, so a text is the same whoever has read its beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...controller.trees.tree import Array
from ..engines.copying import CopyingModel
from .blocks import BLOCK, BlockIndex
from .rows import ModelRows, Prefix


@dataclass
class PrefixTotals:
    """What the store has saved so far."""

    requests: int = 0
    hits: int = 0  # requests whose beginning was not read again
    prompt_tokens: int = 0  # of all these requests
    tokens_reused: int = 0  # of those, what the target did not read again
    tokens_held: int = 0  # now
    tokens_dropped: int = 0  # to make room for others

    def add(self, num_tokens: int, num_reused: int) -> None:
        """Count a request with a prompt of so many tokens."""
        self.requests += 1
        self.hits += num_reused > 0
        self.prompt_tokens += num_tokens
        self.tokens_reused += num_reused


class PrefixStore:
    """Room for `num_tokens` tokens, in each of the models, which are given with the number of the token that the first
    row of a slot belongs to."""

    def __init__(self, models: Sequence[tuple[CopyingModel, int]], num_tokens: int, totals: PrefixTotals):
        num_blocks = num_tokens // BLOCK
        self.totals = totals
        self._models = [ModelRows(model, first_token, num_blocks) for model, first_token in models]
        self._index = BlockIndex(num_blocks)

    def find(self, scope: str, text: Array) -> Prefix:
        """What is held of the beginning of a text [n] int64 in a scope."""
        return Prefix(np.array(self._index.find(scope, text), dtype=np.int64), self._models)

    def keep(self, scope: str, text: Array, slot: int) -> None:
        """Hold what the models have read of a text [n] int64, which is in this slot of each."""
        num_read = max(rows.num_read(slot) for rows in self._models)
        num_before = len(self._index)
        blocks, num_known = self._index.add(scope, text[:num_read])
        numbers = np.array(blocks, dtype=np.int64)
        self.totals.tokens_held = BLOCK * len(self._index)
        self.totals.tokens_dropped += BLOCK * (num_before + len(blocks) - num_known - len(self._index))
        for rows in self._models:
            rows.forget(numbers[num_known:])
        for rows in self._models:
            rows.keep(slot, numbers)
