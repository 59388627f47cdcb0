"""Percentile bootstrap intervals (Efron and Tibshirani, 1993) over texts, documents or rounds."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from .trees.tree import Array


class Interval(NamedTuple):
    """A statistic with its 95 % interval."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int) -> "Interval":
        return Interval(*(round(number, digits) for number in self))


def bootstrap_interval(
    statistic: Callable[..., Array | float], *samples: ArrayLike, vectorized: bool = True, resamples: int = 2000
) -> Interval:
    """`statistic(*samples)` of paired samples [n]; a single observation has no spread, so its interval is the value.

    A `vectorized` statistic takes `axis` and samples [..., n]. The seed is fixed: equal samples have equal intervals.
    """
    arrays = [np.asarray(sample) for sample in samples]
    value = float(statistic(*arrays))
    if len(arrays[0]) < 2:
        return Interval(value, value, value)
    interval = bootstrap(
        arrays, statistic, paired=True, vectorized=vectorized, n_resamples=resamples, method="percentile", rng=0
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high))


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike) -> Interval:
    """Sum of `numerators` [n] over that of `denominators` [n], paired: of one text each, or of one round."""
    return bootstrap_interval(lambda above, below, axis=-1: above.sum(axis) / below.sum(axis), numerators, denominators)
