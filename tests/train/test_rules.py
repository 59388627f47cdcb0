"""The rules of C2T and LTD are fitted on trees as a beam grows them."""

from itertools import pairwise

import numpy as np
import pytest
import tiny
import traces
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.controller.policies.ltd import ltd_features
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.c2t import c2t_features
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.logistic import LogisticRule
from treewright.controller.trees.limits import TreeLimits
from treewright.train.replay.fitted_rules import Level, c2t_fit, fit_rules, grown_levels, ltd_fit
from treewright.train.replay.recording import read_recordings

LIMITS = TreeLimits(max_depth=3, width=2, frontier=2, budget=100)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """One text with an envelope at every position."""
    envelopes = EnvelopeConfig(1, max_depth=4, frontier=6, schemes=("coupled",))
    folder = traces.write(tmp_path_factory.mktemp("runs") / "traces", count=1, envelopes=envelopes)
    (recording,) = read_recordings(folder)["coupled"]
    return recording


def test_the_levels_are_those_of_a_live_beam(recording):
    """The first step of the recorded request drafts and accepts what the first envelope says."""
    (request,) = tiny.requests(1, 0.8, max_tokens=40)
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(ConfidenceScorer(), LIMITS))
    record = next(decoder.steps([request], decoder.open_streams([request])))
    levels = next(grown_levels(recording, LIMITS))
    assert [level.depth for level in levels] == [1, 2, 3]
    for level in levels:
        drafted = np.nonzero(record.drafted.depths[0] == level.depth)[0]
        paths = record.drafted.path_noisy_log_probs[0, drafted]
        np.testing.assert_allclose(np.sort(level.path_log_probs), np.sort(paths), rtol=1e-5)  # stored as float32
        assert level.on_text.any() == (record.verdict.accepted_lengths[0] >= level.depth)


def test_c2t_recovers_the_classifier_that_made_the_labels():
    generator, made_by = np.random.default_rng(0), LogisticRule((1.5, -0.5, 0.2), 1.0)
    trees = []
    for depth in generator.integers(1, 9, size=400).tolist():
        paths, entropies = -generator.exponential(2.0, size=50), generator.uniform(0, 4, size=50)
        chances = 1 / (1 + np.exp(-made_by.log_odds(c2t_features(paths, entropies, np.array(depth)))))
        trees.append([Level(depth, paths, entropies, generator.uniform(size=50) < chances)])
    fit = c2t_fit(trees)
    np.testing.assert_allclose([*fit.weights, fit.bias], [*made_by.weights, made_by.bias], atol=0.15)


def test_the_ltd_rule_predicts_as_many_gains_as_it_saw(recording):
    """The score equation of a logistic fit, within the half observation of each class that the prior adds."""
    trees = list(grown_levels(recording, LIMITS))
    pairs = [pair for tree in trees for pair in pairwise(tree)]
    rows = np.array([ltd_features(np.exp(level.path_log_probs), level.depth) for level, _ in pairs])
    predicted = 1 / (1 + np.exp(-ltd_fit(trees).log_odds(rows)))
    assert predicted.sum() == pytest.approx(sum(below.on_text.any() for _, below in pairs), abs=1)


def test_a_class_that_never_occurs_is_still_fitted(recording):
    trees = [
        [level._replace(on_text=level.on_text | True) for level in tree] for tree in grown_levels(recording, LIMITS)
    ]
    for fit in (c2t_fit(trees), ltd_fit(trees)):
        assert np.isfinite([*fit.weights, fit.bias]).all()


def test_each_scheme_has_its_own_rules(recording):
    assert fit_rules({}, LIMITS) == ({}, {})
    assert all(by_scheme.keys() == {"coupled"} for by_scheme in fit_rules({"coupled": [recording]}, LIMITS))
