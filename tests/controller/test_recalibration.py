"""What a text committed corrects the learned score in that text, and in no other."""

from dataclasses import replace

import numpy as np
import pytest
from trees import context, growing_trees, random_tree
from treewright.controller.learned.recalibration import (
    DECAY,
    LEAST_GAIN,
    Calibration,
    recalibrated_coverage,
    recalibrated_odds,
)
from treewright.controller.learned.scorer import LearnedScorer
from treewright.controller.scorers.siblings import from_odds, odds_of
from treewright.controller.trees.tree import DraftTree

WIDTH = 3


def network(features):
    """Log-probabilities of acceptance and coverage that differ from node to node."""
    doubts = 0.2 + 0.2 * np.abs(features[:, :3]).sum(axis=1)
    coverage = np.tile(np.log([0.5, 0.2, 0.1]), (len(features), 1)).astype(np.float32)
    return -doubts, coverage - 0.01 * doubts[:, None]


def verified(batch=1, seed=0):
    """A tree, the network's answers, and a path of its first child, then that one's second."""
    tree = random_tree(np.random.default_rng(seed), batch, levels=3, width=WIDTH)
    only_child = LearnedScorer(network).score(tree, context(batch)).only_child
    assert only_child is not None
    path = np.full((batch, 2), -1)
    for row in range(batch):
        path[row, 0] = np.nonzero(tree.parents[row] == 0)[0][0]
        children = np.nonzero(tree.parents[row] == path[row, 0])[0]
        path[row, 1] = children[1] if len(children) > 1 else -1
    return tree, only_child, path


def log_likelihood(tree, only_child, path, coefficients):
    """Of what was taken under each node on the text: one of its children, or none of them."""
    odds = recalibrated_odds(odds_of(only_child), tree.ranks == WIDTH - 1, coefficients)
    probs = from_odds(odds, tree)
    total, on_text = 0.0, [0, *path[path >= 0]]
    for node in on_text:
        children = np.nonzero((tree.parents[0] == node) & (tree.depths[0] > 0))[0]
        taken = [child for child in children if child in on_text]
        left = 1.0 - np.exp(probs[0, children]).sum()
        total += (probs[0, taken[0]] if taken else np.log(left)) if len(children) else 0.0
    return total


def recorded(tree, only_child, path, *, times=1):
    calibration = Calibration(len(path))
    for _ in range(times):
        calibration.record(tree, only_child, WIDTH - 1, path)
    return calibration


@pytest.mark.parametrize("source", [0, 1])
def test_the_sums_are_derivatives_and_information_of_the_log_likelihood(source):
    tree, only_child, path = verified()
    only_child = only_child.astype(np.float64)
    sums = recorded(tree, only_child, path[:1]).sums[0, source]

    def at(offset, slope):
        coefficients = np.array([[[0.0, 1.0], [0.0, 1.0]]])
        coefficients[0, source] += (offset, slope)
        return log_likelihood(tree, only_child, path[0], coefficients)

    step = 1e-4
    by_offset, by_slope = ((at(*(step * way)) - at(*(-step * way))) / (2 * step) for way in np.eye(2))
    curvatures = [(at(*(step * way)) + at(*(-step * way)) - 2 * at(0, 0)) / step**2 for way in np.eye(2)]
    np.testing.assert_allclose(sums[:2], (by_offset, by_slope), atol=1e-6)
    np.testing.assert_allclose(sums[[2, 4]], np.negative(curvatures), atol=1e-4)
    mixed = sum(sign * at(step * sign, step) - sign * at(step * sign, -step) for sign in (1, -1)) / (4 * step**2)
    assert sums[3] == pytest.approx(-mixed, abs=1e-4)


def test_a_text_that_takes_less_than_was_said_lowers_its_scores_and_those_of_no_other():
    tree, only_child, _ = verified(batch=2)
    calibration = Calibration(2)
    refused = np.array([[-1], [-1]])
    for _ in range(60):
        calibration.record(tree, only_child, WIDTH - 1, refused)
    calibration.sums[1] = recorded(tree, only_child, verified(batch=2)[2], times=60).sums[1]
    coefficients = calibration.coefficients()
    assert coefficients is not None
    offsets = coefficients[:, 0, 0]
    assert offsets[0] < 0 < offsets[1]
    scorer, plain = LearnedScorer(network), context(2)
    before, after = (scorer.score(tree, each) for each in (plain, replace(plain, calibration=calibration)))
    drafted = tree.depths > 0
    assert (after.accept[0] < before.accept[0])[drafted[0] & (tree.ranks[0] < WIDTH - 1)].all()
    assert (np.exp(after.coverage[0]).sum(axis=1) < np.exp(before.coverage[0]).sum(axis=1)).all()
    frozen = LearnedScorer(network, recalibrates=False).score(tree, replace(plain, calibration=calibration))
    assert np.array_equal(frozen.accept, before.accept)


def test_what_explains_a_text_hardly_better_corrects_nothing():
    tree, only_child, _ = verified()
    refused = np.array([[-1]])
    assert recorded(tree, only_child, refused).coefficients() is None
    coefficients = recorded(tree, only_child, refused, times=60).coefficients()
    assert coefficients is not None

    def explains(by):
        refusals = range(60)  # of which older ones count less
        return sum(DECAY**age * log_likelihood(tree, only_child, refused[0], by) for age in refusals)

    assert explains(coefficients) - explains(np.array([[[0.0, 1.0], [0.0, 1.0]]])) > LEAST_GAIN / 2


def test_nothing_recorded_changes_nothing():
    tree, *_ = verified()
    scorer, plain = LearnedScorer(network), context()
    scores = [scorer.score(tree, each) for each in (plain, replace(plain, calibration=Calibration(1)))]
    assert np.array_equal(scores[0].accept, scores[1].accept)
    assert np.array_equal(scores[0].coverage, scores[1].coverage)


def test_a_growing_tree_scored_level_by_level_is_recalibrated_as_one_scored_from_scratch():
    trees = growing_trees(np.random.default_rng(3), batch=2, levels=3, width=WIDTH, cut=2)
    at = replace(context(2), calibration=recorded(*verified(batch=2, seed=4), times=60))
    assert at.recalibration is not None
    scorer, scores = LearnedScorer(network), None
    for tree in trees:
        scores = scorer.score(tree, at, scores)
        scratch = scorer.score(tree, at)
        valid = tree.valid
        np.testing.assert_allclose(scores.accept[valid], scratch.accept[valid], rtol=1e-6)
        np.testing.assert_allclose(scores.coverage[valid], scratch.coverage[valid], rtol=1e-6)


def test_a_text_in_a_ragged_batch_is_counted_as_alone():
    tree, only_child, path = verified(batch=3, seed=5)
    together = recorded(tree, only_child, path)
    for row in range(3):
        here, count = slice(row, row + 1), int(tree.num_nodes[row])
        alone = DraftTree(tree.num_nodes[here], tree.links[here, :count], tree.numbers[here, :count])
        sums = recorded(alone, only_child[here, :count], path[here]).sums
        np.testing.assert_allclose(together.sums[row], sums[0], rtol=1e-12)


def test_older_steps_count_less_and_steps_that_verified_nothing_do_not_age_them():
    tree, only_child, path = verified()
    calibration = recorded(tree, only_child, path)
    once = calibration.sums.copy()
    calibration.record(tree, only_child, WIDTH - 1, path)
    np.testing.assert_allclose(calibration.sums, once * (1 + DECAY))
    strange = np.full_like(only_child, np.nan)
    calibration.record(tree, strange, WIDTH - 1, path)
    np.testing.assert_allclose(calibration.sums, once * (1 + DECAY))


def test_a_step_is_scored_by_what_was_known_when_it_began():
    tree, only_child, path = verified(seed=7)
    calibration = recorded(*verified(seed=8), times=60)
    at, scorer = replace(context(), calibration=calibration), LearnedScorer(network)
    before = scorer.score(tree, at)
    calibration.record(tree, only_child, WIDTH - 1, path)
    assert np.array_equal(scorer.score(tree, at).accept, before.accept)
    assert not np.array_equal(scorer.score(tree, replace(at)).accept, before.accept)


def test_slots_move_with_their_texts():
    calibration = recorded(*verified(batch=3, seed=6))
    before = calibration.sums.copy()
    calibration.keep([2, 1])
    calibration.join()
    assert np.array_equal(calibration.sums, np.stack((before[2], before[1], np.zeros_like(before[0]))))


def test_coverage_keeps_what_is_certain_and_what_is_unknown():
    coefficients = np.array([[[0.5, 1.2], [-1.0, 0.8]]])
    with np.errstate(divide="ignore"):
        coverage = np.log(np.array([[[0.5, 0.0, 0.25], [np.nan, 0.1, 0.1]]], dtype=np.float32))
    found = recalibrated_coverage(coverage, coefficients)
    assert found[0, 0, 1] == -np.inf and np.isnan(found[0, 1]).all()
    odds = np.array([np.exp(0.5) * 2.0**1.2, np.exp(-1.0) * 1.0])
    np.testing.assert_allclose(np.exp(found[0, 0, [0, 2]]), odds / (1 + odds.sum()), rtol=1e-6)
