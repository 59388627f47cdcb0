"""Whether what the selector expects still comes true."""

from collections.abc import Callable
from math import nan, sqrt

from ....controller.pricing.objective import Objective
from .series import Series

HORIZON_STEPS = 2000  # over which the ratio forgets
TOLERANCE = 0.2  # of the ratio: what other kinds of text than those of training do to it
STANDARD_ERRORS = 3.0


class PredictionMetrics:
    """Written by the decode thread; where no selector prices nodes, all are 0 but the ratio, which is NaN."""

    def __init__(self, series: Series, find_objective: Callable[[], Objective | None]):
        self._find_objective = find_objective
        self._theta = series.gauge("theta", "Tokens per millisecond that the last step's nodes had to beat")
        self._expected = series.counter("selector_expected_tokens", "Accepted tokens that the selector expected")
        self._accepted = series.counter("selector_accepted_tokens", "Accepted tokens of the same steps")
        self._ratio = series.gauge("selector_accepted_per_expected", f"Of about the last {HORIZON_STEPS:,} such steps")
        what = "1 where that is far from 1, and not by chance: train on newer texts"
        self._needs_training = series.gauge("selector_needs_training", what)
        self._ratio.set(nan)
        self._begin(None)

    def _begin(self, objective: Objective | None) -> None:
        """The sums of another choice rule begin at 0, and nothing is known of it."""
        self._objective, self._drift = objective, Drift()
        self._num_expected = self._num_accepted = 0.0  # of the choice rule's sums, counted so far

    def count(self) -> None:
        """What the choice rule has added to its sums in a step."""
        objective = self._find_objective()
        if objective is not self._objective:
            self._begin(objective)
        if objective is None:
            return
        expected, accepted = objective.num_expected - self._num_expected, objective.num_accepted - self._num_accepted
        self._num_expected, self._num_accepted = objective.num_expected, objective.num_accepted
        self._theta.set(objective.last_theta)
        self._expected.inc(expected)
        self._accepted.inc(accepted)
        if expected:
            self._drift.count(expected, accepted)
        self._ratio.set(self._drift.ratio)
        self._needs_training.set(self._drift.is_found)


class Drift:
    """Accepted tokens per expected one over the last steps, which is 1 where a selector is right about the texts."""

    def __init__(self) -> None:
        self._expected = self._accepted = self._squares = 0.0

    def count(self, expected: float, accepted: float) -> None:
        decay = 1.0 - 1.0 / HORIZON_STEPS
        self._expected = self._expected * decay + expected
        self._accepted = self._accepted * decay + accepted
        self._squares = self._squares * decay + (accepted - expected) ** 2

    @property
    def ratio(self) -> float:
        """1 as long as nothing is known."""
        return self._accepted / self._expected if self._expected else 1.0

    @property
    def is_found(self) -> bool:
        """Whether the ratio is further from 1 than the tolerance, by more than its standard errors."""
        if not self._expected:
            return False
        error = sqrt(self._squares) / self._expected
        return abs(self.ratio - 1.0) - STANDARD_ERRORS * error > TOLERANCE
