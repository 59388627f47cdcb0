"""Does a step accept as many tokens as its policy expected, and how well could anyone have known?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...controller.trees.tree import Array
from .steps import Run

NUM_BINS = 10
RESAMPLES = 500


def has_expectations(run: Run) -> bool:
    return all(step.masses is not None for steps in run.steps for step in steps)


def lengths(run: Run) -> dict[str, Any]:
    """Expected against realised accepted length per step: correlation and line of least squares, bins of equal counts.

    `r_attainable` is the correlation that exact predictions would have. `block_slope` is the slope of the bins' true
    on their predicted block efficiency, with its bootstrap 95 % interval over texts: 1 where promises are kept.
    """
    texts = [np.array([(step.expected, step.num_accepted) for step in steps], dtype=np.float64) for steps in run.steps]
    expected, accepted = np.concatenate(texts).T
    spread = len(expected) > 1 and expected.std() > 0 and accepted.std() > 0
    r = float(np.corrcoef(expected, accepted)[0, 1]) if spread else 0.0
    return {
        "r": r,
        "r_attainable": attainable_correlation([step.masses or () for steps in run.steps for step in steps]),
        "slope": r * float(accepted.std() / expected.std()) if spread else 0.0,
        "block_slope": list(_slope_interval(texts)),
        "mean_expected": float(expected.mean()),
        "mean_accepted": float(accepted.mean()),
        "bins": _bins(expected, accepted).tolist(),
    }


def attainable_correlation(predictions: Sequence[Sequence[float]]) -> float:
    """r(E(A), A) over steps whose outcomes follow the predicted masses of each depth.

    Var(A) is Var(E) and the mean variance within a step; the covariance is Var(E).
    """
    means, variances = np.array([length_moments(masses) for masses in predictions]).reshape(-1, 2).T
    known = means.var()
    return float(np.sqrt(known / (known + variances.mean()))) if known > 0 else 0.0


def length_moments(masses: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of the accepted length A where masses[d - 1] is P(A >= d).

    The path probabilities of one depth are predicted one by one and may add up to more than the depth above them has;
    then they count as much as that one.
    """
    tails = np.minimum.accumulate(np.minimum(np.asarray(masses, dtype=np.float64), 1.0))
    mean = float(tails.sum())
    second_moment = float(((2 * np.arange(len(tails)) + 1) * tails).sum())  # d^2 - (d - 1)^2 = 2 d - 1
    return mean, max(0.0, second_moment - mean**2)


def _bins(expected: Array, accepted: Array) -> Array:
    """[bins, 2] mean expected and mean accepted length, in bins of equal counts."""
    order = np.argsort(expected, kind="stable")
    parts = [part for part in np.array_split(order, NUM_BINS) if len(part)]
    return np.array([(expected[part].mean(), accepted[part].mean()) for part in parts])


def _slope_interval(texts: Sequence[Array], seed: int = 0) -> tuple[float, float, float]:
    """Block efficiency is one more than the accepted length, so the slope is that of the lengths."""
    generator = np.random.default_rng(seed)
    drawn = [
        _binned_slope([texts[number] for number in generator.integers(len(texts), size=len(texts))])
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return _binned_slope(texts), float(low), float(high)


def _binned_slope(texts: Sequence[Array]) -> float:
    predicted, true = _bins(*np.concatenate(texts).T).T
    away = predicted - predicted.mean()
    return float((away * true).sum() / (away**2).sum()) if away.any() else 0.0
