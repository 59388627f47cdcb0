"""The random numbers of one verification: every coin and every draw takes the next number of the step."""

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
        """A token from `probs` [V], which need not add up to 1; never one of probability 0."""
        return int((probs.log() + self._noise.gumbel(self._next(), len(probs))).argmax())

    def _next(self) -> int:
        assert self._used < FIRST_DRAFTING_NUMBER, "a verification has run out of coins"
        self._used += 1
        return self._used - 1
