"""Fits of the baselines recover what made the rows."""

import numpy as np
import pytest
import traces
from treewright.controller.features import FEATURES
from treewright.controller.policies.c2t import c2t_features
from treewright.controller.policies.stop import stop_features
from treewright.controller.selector import TreeLimits
from treewright.train.baselines import c2t_fit, stop_fit
from treewright.train.data import Edges, Positions, reachable_edges

LIMITS = TreeLimits(max_depth=4, width=traces.WIDTH)


@pytest.fixture(scope="module")
def positions(tmp_path_factory):
    return Positions.read(traces.write(tmp_path_factory.mktemp("runs") / "traces"))


def log_odds(fit, features):
    return features @ np.asarray(fit["weights"]) + fit["bias"]


def test_c2t_recovers_the_classifier_that_made_the_labels():
    generator = np.random.default_rng(0)
    features = np.zeros((20_000, len(FEATURES)), dtype=np.float32)
    columns = {name: features[:, FEATURES.index(name)] for name in FEATURES}
    columns["noisy_log_prob"][:] = -generator.exponential(size=len(features))
    columns["path_noisy_log_prob"][:] = -generator.exponential(size=len(features))
    columns["entropy"][:] = generator.uniform(0, 4, size=len(features))
    columns["depth"][:] = generator.integers(1, 9, size=len(features))
    joint = columns["noisy_log_prob"] + columns["path_noisy_log_prob"]
    made_by = {"weights": [1.5, -0.5, 0.2], "bias": 1.0}
    odds = log_odds(made_by, c2t_features(joint, columns["entropy"], columns["depth"]))
    taken = (generator.uniform(size=len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    fit = c2t_fit(Edges(features, taken, np.zeros(len(taken)), columns["depth"]))
    np.testing.assert_allclose([*fit["weights"], fit["bias"]], [*made_by["weights"], made_by["bias"]], atol=0.15)


def test_a_logistic_fit_predicts_as_many_events_as_it_saw(positions):
    """The score equation of the bias, within the half observation of each class that the prior adds."""
    edges = reachable_edges(positions, LIMITS.max_depth)
    columns = {name: edges.features[:, FEATURES.index(name)] for name in FEATURES}
    joint = columns["noisy_log_prob"] + columns["path_noisy_log_prob"]
    odds = log_odds(c2t_fit(edges), c2t_features(joint, columns["entropy"], columns["depth"]))
    assert (1 / (1 + np.exp(-odds))).sum() == pytest.approx(edges.taken.sum(), abs=1)


def test_the_stop_rule_is_fitted_on_reachable_levels(positions):
    fit, rows, gained = stop_fit(positions, LIMITS), [], 0
    for root in range(len(positions.rank)):
        for depth in range(1, LIMITS.max_depth):
            here = root + depth - 1
            if here + 1 >= len(positions.rank) or positions.text[here + 1] != positions.text[root]:
                break
            probs = np.exp(positions.noisy_log_probs[here])
            rows.append(stop_features(probs.max(), probs.sum(), np.array(depth)))
            gained += positions.rank[here] >= 0 and positions.rank[here + 1] >= 0
            if positions.rank[here] < 0:
                break
    predicted = 1 / (1 + np.exp(-log_odds(fit, np.array(rows))))
    assert predicted.sum() == pytest.approx(gained, abs=1)


def test_a_class_that_never_occurs_is_still_fitted(positions):
    edges = reachable_edges(positions, LIMITS.max_depth)
    always = Edges(edges.features, np.ones_like(edges.taken), edges.document, edges.depth)
    assert np.isfinite([*c2t_fit(always)["weights"], c2t_fit(always)["bias"]]).all()
