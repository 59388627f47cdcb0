"""Expected against realised accepted length per step, and the correlation that exact predictions would have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...controller.intervals import Interval, bootstrap_interval
from ...controller.trees.tree import Array
from .steps import Run

NUM_BINS = 10
RESAMPLES = 500


@dataclass(frozen=True)
class LengthFit:
    """Expected E(A) against realised accepted length A of single steps."""

    r: float
    r_attainable: float  # of exact predictions
    slope: float  # of least squares
    block_slope: Interval  # of the bins' true on their predicted block efficiency, 1 if calibrated; over texts
    mean_expected: float
    mean_accepted: float
    bins: list[tuple[float, float]]  # mean expected and accepted length, of equal counts


def has_expectations(run: Run) -> bool:
    return all(step.masses is not None for steps in run.steps for step in steps)


def length_fit(run: Run) -> LengthFit:
    texts = [np.array([(step.expected, step.num_accepted) for step in steps], dtype=np.float64) for steps in run.steps]
    expected, accepted = np.concatenate(texts).T
    spread = len(expected) > 1 and expected.std() > 0 and accepted.std() > 0
    r = float(np.corrcoef(expected, accepted)[0, 1]) if spread else 0.0

    def slope(chosen: Array) -> float:
        """Block efficiency is one more than the accepted length, so the slope is that of the lengths."""
        predicted, true = _bins(np.concatenate([texts[number] for number in chosen])).T
        away = predicted - predicted.mean()
        return float((away * true).sum() / (away**2).sum()) if away.any() else 0.0

    return LengthFit(
        r=r,
        r_attainable=attainable_correlation([step.masses or () for steps in run.steps for step in steps]),
        slope=r * float(accepted.std() / expected.std()) if spread else 0.0,
        block_slope=bootstrap_interval(slope, np.arange(len(texts)), vectorized=False, resamples=RESAMPLES),
        mean_expected=float(expected.mean()),
        mean_accepted=float(accepted.mean()),
        bins=[(predicted, true) for predicted, true in _bins(np.concatenate(texts)).tolist()],
    )


def attainable_correlation(predictions: Sequence[Sequence[float]]) -> float:
    """r(E(A), A) over steps whose outcomes follow the predicted masses of each depth.

    Var(A) is Var(E) and the mean variance within a step; the covariance is Var(E).
    """
    means, variances = np.array([length_moments(masses) for masses in predictions]).reshape(-1, 2).T
    known = means.var()
    return float(np.sqrt(known / (known + variances.mean()))) if known > 0 else 0.0


def length_moments(masses: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of the accepted length A where masses[d - 1] is P(A >= d).

    The path probabilities of one depth are predicted separately and may sum to more than those of the depth above;
    then they are clipped to that sum.
    """
    tails = np.minimum.accumulate(np.minimum(np.asarray(masses, dtype=np.float64), 1.0))
    mean = float(tails.sum())
    second_moment = float(((2 * np.arange(len(tails)) + 1) * tails).sum())  # d^2 - (d - 1)^2 = 2 d - 1
    return mean, max(0.0, second_moment - mean**2)


def _bins(pairs: Array) -> Array:
    """[bins, 2] means of pairs [n, 2], in bins of equal counts of the first."""
    order = np.argsort(pairs[:, 0], kind="stable")
    return np.array([pairs[part].mean(axis=0) for part in np.array_split(order, NUM_BINS) if len(part)])
