"""The cache rows of each model at the tokens of blocks, and what they hold of a text that joins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...controller.trees.tree import Array
from ..engines.base import CachedModel
from ..engines.copying import CopyingModel
from .blocks import BLOCK


class ModelRows:
    """Those of one model. Row j of its slots belongs to the token `first_token` + j of a text, and is a function of the
    tokens up to that one."""

    def __init__(self, model: CopyingModel, first_token: int, num_blocks: int):
        self.model = model
        self._first_token = first_token
        self._rows = model.cache.new_rows(num_blocks * BLOCK)
        self._is_held = np.zeros(num_blocks, dtype=bool)

    def forget(self, blocks: Array) -> None:
        """These blocks [n] stand for other tokens from now on."""
        self._is_held[blocks] = False

    def num_read(self, slot: int) -> int:
        """Tokens of a slot's text whose rows the slot holds."""
        return int(self.model.lengths[slot]) + self._first_token

    def keep(self, slot: int, blocks: Array) -> None:
        """Copy what a slot holds of the `blocks` [n] of its text and is not held yet."""
        blocks = blocks[: self.num_read(slot) // BLOCK]
        (missing,) = np.nonzero(~self._is_held[blocks])
        tokens = _tokens_of(missing)
        places = _tokens_of(blocks[missing])
        has_row = tokens >= self._first_token
        if has_row.any():
            self.model.cache.copy_out(slot, tokens[has_row] - self._first_token, self._rows, places[has_row])
            self._is_held[blocks[missing]] = True

    def num_held(self, blocks: Array) -> int:
        """Tokens of the first of the `blocks` [n] of a text that are all held."""
        held = self._is_held[blocks]
        return BLOCK * (len(held) if held.all() else int(held.argmin()))

    def fill(self, blocks: Array, most: int) -> int:
        """See `Prefix.fill`."""
        places = _tokens_of(blocks)[: self.num_held(blocks)][self._first_token :][: max(0, most)]
        if len(places):
            self.model.cache.copy_in(len(self.model.lengths) - 1, self._rows, places)
        return len(places)


def _tokens_of(blocks: Array) -> Array:
    """[n * BLOCK] numbers of the tokens of blocks [n]."""
    return (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()


class Prefix(NamedTuple):
    """What models hold of the beginning of one text."""

    blocks: Array  # [n] int64
    models: Sequence[ModelRows]

    @property
    def num_shared(self) -> int:
        """The first tokens of the text, as far as every model holds their rows."""
        return min((rows.num_held(self.blocks) for rows in self.models), default=0)

    def most_with_states(self, num_tokens: int) -> int:
        """How many rows of a text of so many tokens a target and a head on its hidden states may take. The head's last
        one belongs to the next token; behind it, both read on."""
        return min(self.num_shared, num_tokens - 1) - 1

    def fill(self, model: CachedModel, most: int) -> int:
        """Copy the first rows of the text into a model's last slot, which is empty: how many, `most` at most."""
        return sum(rows.fill(self.blocks, most) for rows in self.models if rows.model is model)


NO_PREFIX = Prefix(np.zeros(0, dtype=np.int64), ())
