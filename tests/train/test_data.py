"""Training rows are exactly the edges a walk can come to ask about, with the features serving computes."""

import numpy as np
import pytest
import tiny
import traces
from treewright.controller.features import FEATURES, node_features
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.selector import Selector, TreeLimits
from treewright.train.data import Positions, reachable_edges, split_documents

MAX_DEPTH = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return traces.write(tmp_path_factory.mktemp("runs") / "traces")


def test_edges_equal_a_loop_over_roots_and_depths(folder):
    rows = folder.positions().to_pylist()
    expected = []
    for root in range(len(rows)):
        path, path_noisy = 0.0, 0.0
        for depth in range(1, MAX_DEPTH + 1):
            place = root + depth - 1
            if place >= len(rows) or rows[place]["text_id"] != rows[root]["text_id"]:
                break
            row = rows[place]
            for rank, noisy in enumerate(row["candidate_noisy_log_probs"]):
                expected.append((depth, rank, path, path_noisy, max(noisy, -12.0), float(row["rank"] == rank)))
            if row["rank"] < 0:
                break
            path += row["candidate_log_probs"][row["rank"]]
            path_noisy += row["candidate_noisy_log_probs"][row["rank"]]
    edges = reachable_edges(Positions.read(folder), MAX_DEPTH)
    columns = [FEATURES.index(n) for n in ("rank", "path_log_prob", "path_noisy_log_prob", "noisy_log_prob")]
    # Both sides sorted by row; float32 columns are compared as such, hence the tolerance.
    got = np.column_stack((edges.depth, edges.features[:, columns], edges.taken))
    wanted = np.array(expected)
    order, wanted_order = (np.lexsort(np.round(rows, 3).T) for rows in (got, wanted))
    np.testing.assert_allclose(got[order], wanted[wanted_order], atol=2e-3)


def test_an_edge_has_the_features_that_serving_computes_for_the_node(folder):
    """Every accepted node of a live run is found among the training edges, features and all."""
    requests = tiny.requests(1, 0.8, 40)
    selector = Selector(ConfidenceScorer(), TreeLimits(MAX_DEPTH, traces.WIDTH, 3, 12))
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector)
    edges = reachable_edges(Positions.read(folder), MAX_DEPTH)
    taken = edges.features[edges.taken == 1]
    compared = 0
    for record in decoder.steps(requests, decoder.open_streams(requests)):
        features = node_features(record.kept, record.context)
        accepted = record.verdict.path[0][: record.num_emitted[0]]
        for node in accepted[accepted >= 0]:
            assert np.abs(taken - features[0, node]).max(axis=1).min() < 1e-4
            compared += 1
    assert compared > 10


def test_no_document_is_on_both_sides_of_the_split(folder):
    edges = reachable_edges(Positions.read(folder), MAX_DEPTH)
    training, validation = split_documents(edges, 0.25, seed=0)
    assert not set(training.document) & set(validation.document)
    assert len(training.taken) + len(validation.taken) == len(edges.taken)


def test_one_document_is_too_few(tmp_path):
    edges = reachable_edges(Positions.read(traces.write(tmp_path / "one", count=1)), MAX_DEPTH)
    with pytest.raises(ValueError, match="one document only"):
        split_documents(edges, 0.25, seed=0)
