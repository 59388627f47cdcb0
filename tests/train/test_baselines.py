"""What the learned score is measured against: rank tables by scheme, and simpler models."""

import numpy as np
import pytest
import traces
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.learned.features import FEATURES
from treewright.train.data.rows import Rows
from treewright.train.evaluate.baselines import PRIOR_COUNT, baseline_probs, rank_tables

NOISY = FEATURES.index("noisy_log_probs")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    return [traces.write(path / scheme.name, count=3, draws=3, scheme=scheme) for scheme in (COUPLED, FIXED)]


def test_the_same_texts_have_the_same_rank_tables_under_whichever_scheme_they_were_recorded(folders):
    coupled, fixed = map(rank_tables, folders)
    assert coupled == fixed
    assert coupled["coupled"] != coupled["fixed"]


def test_a_rank_table_is_the_shares_of_a_loop_over_rows(folders):
    rows = folders[1].read("positions").to_pylist()
    tables = rank_tables(folders[1])
    for scheme in ("coupled", "fixed"):
        counts = [sum(row[f"{scheme}_rank"] == rank for row in rows) for rank in range(traces.WIDTH + 1)]
        assert tables[scheme] == {0.8: [(count + PRIOR_COUNT) / (len(rows) + 1) for count in counts]}


def test_greedy_text_has_the_same_ranks_under_every_scheme(tmp_path):
    tables = rank_tables(traces.write(tmp_path / "greedy", count=1, temperature=0.0, scheme=FIXED))
    assert tables["coupled"] == tables["fixed"]


def edges(log_probs, taken):
    features = np.zeros((len(taken), len(FEATURES)), dtype=np.float32)
    features[:, NOISY] = log_probs
    label, number = np.array(taken, dtype=np.float32), np.arange(len(taken))
    return Rows(features, label, number, np.ones(len(taken)), np.ones(len(taken)), number)


def test_simpler_models_learn_the_shares_of_two_levels_of_confidence():
    """Half of the edges have confidence 0.8 of which 3 in 4 are taken, half 0.2 of which 1 in 4."""
    training = edges(np.log([0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.2, 0.2] * 100), [1, 1, 1, 0, 1, 0, 0, 0] * 100)
    probs = baseline_probs(training, edges(np.log([0.8, 0.2]), [1, 0]))
    assert probs["drafter confidence"] == pytest.approx([0.8, 0.2])
    assert probs["isotonic confidence"] == pytest.approx([0.75, 0.25])
    assert probs["gradient boosting"] == pytest.approx([0.75, 0.25], abs=1e-3)
    assert probs["logistic regression"] == pytest.approx([0.75, 0.25], abs=2e-3)  # it is regularised


@pytest.mark.parametrize("outcome", [0, 1])
def test_models_of_a_single_outcome_are_certain_of_it(outcome):
    probs = baseline_probs(edges(np.log([0.8, 0.2]), [outcome] * 2), edges(np.log([0.5]), [0]))
    for name in ("isotonic confidence", "logistic regression", "gradient boosting"):
        assert probs[name] == pytest.approx([outcome])
