"""Language models that are tables, small enough to sum over everything they can generate."""

import torch


class TableModel:
    """A language model that gives every prefix a random row, some of them with zeros."""

    def __init__(self, seed, vocabulary_size, num_zeros=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.vocabulary_size = vocabulary_size
        self.num_zeros = num_zeros
        self.rows = {}

    def __call__(self, prefix):
        if prefix not in self.rows:
            row = torch.randn(self.vocabulary_size, generator=self.generator, dtype=torch.float64).mul(1.5).exp()
            if len(prefix) % 2:
                row[: self.num_zeros] = 0.0
            self.rows[prefix] = row / row.sum()
        return self.rows[prefix]


def draws(model, prefix, length):
    """Every text of `length` tokens behind `prefix` with its probability."""
    if length == 0:
        yield (), 1.0
        return
    for token, prob in enumerate(model(prefix).tolist()):
        if prob > 0:
            for rest, weight in draws(model, (*prefix, token), length - 1):
                yield (token, *rest), prob * weight
