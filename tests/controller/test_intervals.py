"""Bootstrap intervals: the value itself without a spread, the spread of the observations otherwise."""

import numpy as np
from treewright.controller.intervals import bootstrap_interval, ratio_interval


def test_a_ratio_of_sums_has_the_extremes_of_its_pairs_as_bounds():
    """Of two pairs, a resample holds the first twice, the second twice, or both."""
    assert ratio_interval([6.0, 2.0], [4.0, 4.0]) == (1.0, 0.5, 1.5)


def test_pairs_are_resampled_together():
    numbers = np.arange(1.0, 9.0)
    assert ratio_interval(3 * numbers, numbers) == (3.0, 3.0, 3.0)


def test_a_single_observation_is_its_own_interval():
    assert ratio_interval([3.0], [2.0]) == (1.5, 1.5, 1.5)


def test_a_statistic_may_take_one_resample_at_a_time():
    at_a_time = bootstrap_interval(lambda sample: sample.mean(), np.arange(20.0), vectorized=False)
    at_once = bootstrap_interval(lambda sample, axis=-1: sample.mean(axis), np.arange(20.0))
    assert at_a_time == at_once


def test_rounding_keeps_the_three_numbers():
    assert ratio_interval([1.0], [3.0]).rounded(2) == (0.33, 0.33, 0.33)
