"""Scores of probabilities, worked out by hand."""

import numpy as np
import pytest
from treewright.train.evaluate.calibration import (
    NUM_BINS,
    DepthScores,
    Scores,
    by_depth,
    expected_calibration_error,
    score_probs,
    skill_interval,
)
from treewright.train.evaluate.reliability import Curve


def test_a_coin_that_is_said_to_be_fair():
    assert score_probs(np.array([0.5, 0.5]), np.array([0, 1])) == Scores(brier=0.25, log_loss=0.69315, ece=0.5)


def test_what_was_certain_and_wrong_costs_a_finite_loss():
    assert score_probs(np.array([1.0]), np.array([0])).log_loss == round(-np.log(1e-6), 5)
    assert score_probs(np.array([0.0, 1.0]), np.array([0, 1])) == Scores(0.0, 0.0, 0.0)


def test_a_curve_has_a_point_per_quantile_bin_lowest_predictions_first():
    probs = np.repeat([0.9, 0.2], 2 * NUM_BINS + 2)
    taken = np.tile([1, 1, 1, 0], NUM_BINS + 1)
    curve = Curve.of("depth 1", probs, taken)
    assert curve.points == [(pytest.approx(0.2), 0.75), (pytest.approx(0.9), 0.75)]  # equal predictions share a bin
    assert (curve.rows, curve.mean_predicted, curve.observed) == (4 * NUM_BINS + 4, pytest.approx(0.55), 0.75)


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_curve_may_see_a_single_outcome(outcome):
    assert Curve.of("rank 1", np.array([0.5, 1.0000001]), np.full(2, float(outcome))).observed == outcome


def test_the_calibration_error_is_the_mean_distance_of_predicted_and_observed():
    assert expected_calibration_error(np.array([0.1, 0.8]), np.array([0, 1])) == pytest.approx((0.1 + 0.2) / 2)


def test_half_the_errors_of_the_reference_is_a_skill_of_a_half_in_every_resample():
    errors = np.array([1.0, 2.0, 3.0])
    assert skill_interval(errors, 2 * errors, np.array([7, 7, 9])) == (0.5, 0.5, 0.5)


def test_whole_groups_are_resampled():
    """With one document all resamples are equal; with two, a resample may hold one of them twice."""
    errors, reference = np.array([0.0, 4.0]), np.array([4.0, 4.0])
    assert skill_interval(errors, reference, np.array([1, 1])) == (0.5, 0.5, 0.5)
    assert skill_interval(errors, reference, np.array([1, 2])) == (0.5, 0.0, 1.0)


def test_a_reference_without_errors_leaves_no_skill():
    assert skill_interval(np.array([0.0, 1.0]), np.zeros(2), np.array([1, 2])) == (0.0, 0.0, 0.0)


def test_each_depth_is_scored_alone():
    rows = by_depth(np.array([0.5, 1.0, 0.5]), np.array([1, 1, 0]), np.array([2, 1, 2]))
    assert rows == [
        DepthScores(depth=1, edges=1, brier=0.0, log_loss=0.0, ece=0.0),
        DepthScores(depth=2, edges=2, brier=0.25, log_loss=0.69315, ece=0.5),
    ]
