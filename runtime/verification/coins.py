"""The random numbers of one verification: every coin and every draw takes the next number of the step."""

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

        One coin is looked up in the running sum, which costs a tenth of a Gumbel number per token.
        """
        possible = probs.nonzero().squeeze(-1)
        assert len(possible), "no token has any probability"
        sums = probs[possible].double().cumsum(dim=0)
        place = torch.searchsorted(sums, sums[-1] * self._noise.uniform(self._next()), right=True)
        return int(possible[place.clamp_max(len(possible) - 1)])

    def _next(self) -> int:
        assert self._used < FIRST_DRAFTING_NUMBER, "a verification has run out of coins"
        self._used += 1
        return self._used - 1
