"""The random numbers of one verification: every coin and every draw takes the next number of the step."""

from math import nextafter

import torch
from torch import Tensor

from ..noise import FIRST_DRAFTING_NUMBER, StepNoise


class Coins:
    def __init__(self, noise: StepNoise):
        self._noise = noise
        self._used = 0

    def accept(self, probability: float) -> bool:
        """True with `probability`: never at 0, always at 1."""
        return self._noise.uniform(self._next()) < probability

    def draw(self, probs: Tensor) -> int:
        """A token from `probs` [V], which need not add up to 1; never one of probability 0.

        By the inverse of the distribution function: one uniform number, where Gumbel noise takes one per token.
        """
        sums = probs.cumsum(dim=0, dtype=torch.float64)
        total = float(sums[-1])
        place = min(self._noise.uniform(self._next()) * total, nextafter(total, 0.0))  # rounding may reach the end
        return int(torch.searchsorted(sums, place, right=True))

    def _next(self) -> int:
        assert self._used < FIRST_DRAFTING_NUMBER, "a verification has run out of coins"
        self._used += 1
        return self._used - 1
