"""Toy language models: a table of next-token probabilities."""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from ...controller.trees.tree import Array

Prefix = tuple[int, ...]


class TableModel:
    """A row of log-probabilities [V] for every prefix, made when it is first asked for: float64, or float32 to see what
    rounding does."""

    def __init__(self, log_row_of: Callable[[Prefix], Array]):
        self._log_row_of = log_row_of
        self._log_rows: dict[Prefix, Array] = {}
        self._rows: dict[Prefix, Array] = {}

    @classmethod
    def random(cls, vocabulary_size: int, seed: int) -> Self:
        """Independent rows, each uniform on the simplex."""
        return cls(lambda prefix: np.log(np.random.default_rng((seed, *prefix)).dirichlet(np.ones(vocabulary_size))))

    def log_row(self, prefix: Prefix) -> Array:
        if prefix not in self._log_rows:
            self._log_rows[prefix] = self._log_row_of(prefix)
        return self._log_rows[prefix]

    def row(self, prefix: Prefix) -> Array:
        """[V] probabilities, of the same number format."""
        if prefix not in self._rows:
            self._rows[prefix] = np.exp(self.log_row(prefix))
        return self._rows[prefix]

    def text_probs(self, length: int, prefix: Prefix = ()) -> Array:
        """[V, ..., V] float64 joint probabilities of the `length` tokens behind `prefix`."""
        if length == 0:
            return np.ones(())
        row = self.row(prefix).tolist()
        return np.stack([prob * self.text_probs(length - 1, (*prefix, token)) for token, prob in enumerate(row)])


class ToyPair(NamedTuple):
    target: TableModel
    drafter: TableModel

    @classmethod
    def random(cls, vocabulary_size: int, seed: int) -> Self:
        """Two unrelated models."""
        return cls(TableModel.random(vocabulary_size, 2 * seed), TableModel.random(vocabulary_size, 2 * seed + 1))
