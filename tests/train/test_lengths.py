"""Expected against accepted length: moments by hand, and what exact predictions could reach."""

import numpy as np
import plans
import pytest
from treewright.train.replay.lengths import attainable_correlation, length_fit, length_moments
from treewright.train.replay.steps import Run, Step


def run_of(*texts):
    """A run of texts given as (masses, accepted length) per step."""
    steps = [[Step(0, (1,), 1, accepted, accepted + 1, masses) for masses, accepted in text] for text in texts]
    return Run(plans.toy(), [], [], steps)


def test_moments_are_those_of_the_enumerated_lengths():
    """Half of the steps accept nothing, three in ten one token, two in ten two."""
    outcomes = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    assert length_moments((0.5, 0.2)) == pytest.approx((outcomes.mean(), outcomes.var()))
    assert length_moments(()) == (0.0, 0.0)


def test_a_depth_counts_no_more_than_the_one_above():
    assert length_moments((1.3, 0.4, 0.6)) == pytest.approx(length_moments((1.0, 0.4, 0.4)))


def test_exact_predictions_reach_the_attainable_correlation():
    """A simulation of 40,000 steps; its correlation has a standard error of 0.004."""
    generator = np.random.default_rng(0)
    masses = np.sort(generator.uniform(size=(40_000, 3)), axis=1)[:, ::-1]
    accepted = (generator.uniform(size=(40_000, 1)) < masses).sum(axis=1)  # one draw per step: depths are nested
    realised = np.corrcoef(masses.sum(axis=1), accepted)[0, 1]
    assert attainable_correlation(masses.tolist()) == pytest.approx(realised, abs=0.015)


def test_certain_predictions_could_be_right_every_time_and_equal_ones_tell_nothing():
    assert attainable_correlation([(1.0,), (0.0,), (1.0, 1.0)]) == 1.0
    assert attainable_correlation([(0.5,), (0.5,)]) == 0.0


def test_kept_promises_have_slope_one_and_halved_ones_half():
    certain = [[((1.0,) * length, length) for length in (0, 1, 2, 3, 4)] * 4 for _ in range(3)]
    assert length_fit(run_of(*certain)).block_slope == pytest.approx([1.0, 1.0, 1.0])
    halved = [[((1.0,) * (2 * length), length) for length in (0, 1, 2, 3, 4)] * 4 for _ in range(3)]
    assert length_fit(run_of(*halved)).block_slope == pytest.approx([0.5, 0.5, 0.5])


def test_texts_that_differ_widen_the_interval_of_the_slope():
    kept = [((1.0,) * length, length) for length in (0, 1, 2, 3, 4)] * 4
    broken = [(masses, 0) for masses, _ in kept]
    slope, low, high = length_fit(run_of(kept, kept, broken)).block_slope
    assert low < slope < high
    assert slope == pytest.approx(2 / 3)
