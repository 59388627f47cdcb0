"""What a shape decision may know besides the tree: the state of each request when its step begins."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from .learned.recalibration import Calibration
from .trees.tree import Array


@dataclass(frozen=True)
class StepContext:
    """One entry per request of the batch."""

    positions: Array  # [B] int64, index of the root token in its text
    remaining: Array  # [B] int64, tokens the request may still emit, at least 1
    temperatures: Array  # [B] float32
    top_ps: Array  # [B] float32, 1 where no cut is made
    history: Array  # [B, H] float32, see `history.HISTORY`
    calibration: Calibration | None = None  # of the texts so far; None where a learned score is taken as it is
    agreement: Array | None = None  # [B, 9] float32, see `agreement.AGREEMENT`; where a policy goes by it
    num_unread: int | None = None  # prompt tokens that the target reads together with the trees; None if not known

    def row(self, index: int) -> Self:
        """One request alone; without its calibration, which goes on with the text."""
        here = slice(index, index + 1)
        return replace(
            self,
            positions=self.positions[here],
            remaining=self.remaining[here],
            temperatures=self.temperatures[here],
            top_ps=self.top_ps[here],
            history=self.history[here],
            calibration=None,
            agreement=None if self.agreement is None else self.agreement[here],
            num_unread=None,
        )

    @property
    def batch(self) -> int:
        """Requests."""
        return len(self.positions)

    @cached_property
    def longest(self) -> int:
        """Tokens before the root of the longest text, by which a step is priced."""
        return int(self.positions.max())

    @cached_property
    def recalibration(self) -> Array | None:
        """Coefficients of `calibration` as the step began: it counts the step at its end, and a step is scored by what
        was known before."""
        return None if self.calibration is None else self.calibration.coefficients()

    @property
    def max_depths(self) -> Array:
        """[B]: the deepest node that could still be emitted (a step always adds one token to its path)."""
        return self.remaining - 1

    @cached_property
    def mean_temperature(self) -> float:
        """What a batch's accounts are kept by."""
        return sum(self.temperatures.tolist()) / self.batch

    @cached_property
    def conditions(self) -> Array:
        """[B, 2 + H] float32, see `stack_conditions`."""
        return stack_conditions(self.temperatures, self.top_ps, self.history)


def stack_conditions(temperatures: Array, top_ps: Array, history: Array) -> Array:
    """[n, 2 + H]: what features know besides the tree, of requests or of positions in a text."""
    return np.concatenate((temperatures[:, None], top_ps[:, None], history), axis=1)
