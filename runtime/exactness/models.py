"""Toy language models: a table of next-token probabilities."""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from ...controller.tree import Array

Prefix = tuple[int, ...]


class TableModel:
    """A row of probabilities [V] float64 for every prefix, made when it is first asked for."""

    def __init__(self, row_of: Callable[[Prefix], Array]):
        self._row_of = row_of
        self._rows: dict[Prefix, Array] = {}

    @classmethod
    def random(cls, vocabulary_size: int, seed: int) -> Self:
        """Independent rows, each uniform on the simplex."""
        return cls(lambda prefix: np.random.default_rng((seed, *prefix)).dirichlet(np.ones(vocabulary_size)))

    def row(self, prefix: Prefix) -> Array:
        if prefix not in self._rows:
            self._rows[prefix] = self._row_of(prefix)
        return self._rows[prefix]

    def text_probs(self, length: int, prefix: Prefix = ()) -> Array:
        """[V, ..., V] joint probabilities of the `length` tokens behind `prefix`."""
        if length == 0:
            return np.ones(())
        row = self.row(prefix)
        return np.stack([row[token] * self.text_probs(length - 1, (*prefix, token)) for token in range(len(row))])


class ToyPair(NamedTuple):
    target: TableModel
    drafter: TableModel

    @classmethod
    def random(cls, vocabulary_size: int, seed: int) -> Self:
        """Two unrelated models."""
        return cls(TableModel.random(vocabulary_size, 2 * seed), TableModel.random(vocabulary_size, 2 * seed + 1))
