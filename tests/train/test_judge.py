"""The scores of a network on test documents."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import traces
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.torch_model import SelectorModel
from treewright.train.data.stream import SelectorData
from treewright.train.evaluate import scores  # by its module: pytest would take `test_probs` for a test
from treewright.train.evaluate.calibration import score_probs
from treewright.train.evaluate.scores import coverage_scores, evaluate
from treewright.train.fit.settings import FitConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = traces.write(tmp_path_factory.mktemp("runs") / "traces", count=3, max_tokens=12)
    return SelectorData(folder, FitConfig(), max_depth=2)


@pytest.fixture(scope="module")
def ignorant():
    """Whatever it sees, a child is as likely as none of them, and so is each rank."""
    model = SelectorModel(len(FEATURES), traces.WIDTH + 1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    return model.eval()


def test_a_network_of_zeros_shares_the_text_among_siblings_and_none(data, ignorant):
    edges, nodes = data.test
    accept, coverage = scores.test_probs(ignorant, data)
    siblings = np.bincount(edges.family)[edges.family]
    np.testing.assert_allclose(accept, 1 / (siblings + 1), rtol=1e-6)
    np.testing.assert_allclose(coverage, np.full((len(nodes.label), traces.WIDTH + 1), 1 / (traces.WIDTH + 2)))


def test_the_scores_are_those_of_the_test_edges(data, ignorant):
    edges, nodes = data.test
    found = evaluate(ignorant, data)
    accept, coverage = scores.test_probs(ignorant, data)
    assert found.scores["learned"] == score_probs(accept, edges.label)
    assert found.scores.keys() == {
        "drafter confidence",
        "isotonic confidence",
        "logistic regression",
        "gradient boosting",
        "learned",
    }
    assert [row.depth for row in found.by_depth] == [1, 2]
    assert sum(row.edges for row in found.by_depth) == len(edges.label)
    assert found.coverage == coverage_scores(coverage, nodes.label)
    json.dumps(asdict(found), allow_nan=False)


def test_coverage_is_scored_against_the_shares_of_the_ranks():
    """Two candidates; of four nodes the text goes on through the first twice, the second once, beyond them once."""
    probs = np.array([[0.5, 0.25], [0.5, 0.25], [0.5, 0.5], [0.25, 0.25]])
    labels = np.array([0, 0, 1, 2])
    found = coverage_scores(probs, labels)
    assert found.log_loss == round(-np.log([0.5, 0.5, 0.5, 0.5]).mean(), 5)
    assert found.log_loss_of_shares == round(-np.log([0.5, 0.5, 0.25, 0.25]).mean(), 5)
    # One node per bin, lowest predictions first.
    assert found.ece_by_rank == [(0.25 + 0.5 + 0.5 + 0.5) / 4, (0.25 + 0.25 + 0.25 + 0.5) / 4]
