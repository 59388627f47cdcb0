"""Training rows are exactly the edges a walk can come to ask about, with the features serving computes."""

import numpy as np
import pytest
import tiny
import traces
from treewright.controller.errors import InputError
from treewright.controller.learned.features import FEATURES, node_features
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.train.data.rows import read_rows
from treewright.train.data.stream import SelectorData
from treewright.train.fit.settings import FitConfig

MAX_DEPTH = 4
FIT = FitConfig(batch_size=64, row_share=1.0)


class WatchfulScorer(ConfidenceScorer):
    """Confidence that asks for the text's history, as the learned score does."""

    reads_history = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return traces.write(tmp_path_factory.mktemp("runs") / "traces")


def rows_of(folder):
    """All (edges, nodes) of a folder."""
    parts = list(read_rows(folder, MAX_DEPTH, np.arange(len(folder.shards))))
    return tuple(type(rows[0]).joined(list(rows)) for rows in zip(*parts, strict=True))


def test_edges_equal_a_loop_over_roots_and_depths(folder):
    rows = [row for row in folder.read("positions").to_pylist() if row["draw"] == 0]
    expected = []
    for root in range(len(rows)):
        path, path_noisy = 0.0, 0.0
        for depth in range(1, MAX_DEPTH + 1):
            place = root + depth - 1
            if place >= len(rows) or rows[place]["text_id"] != rows[root]["text_id"]:
                break
            row = rows[place]
            candidates = zip(row["candidate_log_probs"], row["candidate_noisy_log_probs"], strict=True)
            for rank, (log_prob, noisy) in enumerate(candidates):
                if noisy == -np.inf:  # the n-grams expect none but the drafter's candidates
                    continue
                taken = float(row["coupled_rank"] == rank)
                expected.append((depth, rank, path + log_prob, path_noisy + noisy, noisy, taken))
            if row["coupled_rank"] < 0:
                break
            path += row["candidate_log_probs"][row["coupled_rank"]]
            path_noisy += row["candidate_noisy_log_probs"][row["coupled_rank"]]
    edges, _ = rows_of(folder)
    columns = [FEATURES.index(n) for n in ("ranks", "path_log_probs", "path_noisy_log_probs", "noisy_log_probs")]
    # Both sides sorted by row; float32 columns are compared as such, hence the tolerance.
    got = np.column_stack((edges.depth, edges.features[:, columns], edges.label))
    wanted = np.array(expected)
    order, wanted_order = (np.lexsort(np.round(rows, 3).T) for rows in (got, wanted))
    np.testing.assert_allclose(got[order], wanted[wanted_order], atol=2e-3)


def test_an_edge_has_the_features_that_serving_computes_for_the_node(folder):
    """Every accepted node of a live run is found among the training edges, features and all."""
    requests = tiny.requests(1, 0.8, 40)
    selector = Selector(WatchfulScorer(), TreeLimits(MAX_DEPTH, traces.WIDTH, 3, 12, ngrams=True))
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector)
    edges, nodes = rows_of(folder)
    taken = edges.features[edges.label == 1]
    roots = nodes.features[nodes.depth == 0]
    compared = 0
    for record in decoder.steps(requests, decoder.open_streams(requests)):
        features = node_features(record.kept, record.context)
        assert np.abs(roots - features[0, 0]).max(axis=1).min() < 1e-4
        accepted = record.verdict.path[0][: record.num_emitted[0]]
        for node in accepted[accepted >= 0]:
            assert np.abs(taken - features[0, node]).max(axis=1).min() < 1e-4
            compared += 1
    assert compared > 10


def test_children_of_a_node_stay_in_one_batch(folder):
    """The rank is not that of an earlier sibling, the parent's path is the same, and the text takes one at most."""
    data = SelectorData(folder, FitConfig(batch_size=16, row_share=1.0), max_depth=MAX_DEPTH)
    rank, path = FEATURES.index("ranks"), FEATURES.index("path_log_probs")
    own = FEATURES.index("log_probs")
    num_families = 0
    for batch in data.train_dataloader():
        above = (batch.edge_features[:, path] - batch.edge_features[:, own]).numpy()
        assert batch.family.unique().tolist() == list(range(int(batch.family.max()) + 1))
        for family in batch.family.unique():
            members = (batch.family == family).numpy()
            ranks = batch.edge_features[members, rank].tolist()
            assert ranks[: traces.WIDTH] == list(range(traces.WIDTH))
            assert len(set(ranks)) == len(ranks)
            assert np.ptp(above[members]) < 1e-4
            assert batch.taken[members].sum() <= 1
            num_families += 1
    edges, _ = rows_of(folder)
    assert num_families == (edges.features[:, rank] == 0)[np.isin(edges.document, data.training[0].document)].sum()


def test_other_noise_draws_label_the_same_nodes_anew(tmp_path):
    """Coverage over many draws comes near the drafter's agreement, and draw 0 stays what the text says."""
    one, many = (traces.write(tmp_path / str(draws), draws=draws) for draws in (1, 5))
    edges, nodes = rows_of(one)
    more_edges, more_nodes = rows_of(many)
    assert len(more_nodes.label) == 5 * len(nodes.label)
    of_drafter, more_of_drafter = (
        rows.features[:, FEATURES.index("ranks")] < traces.WIDTH for rows in (edges, more_edges)
    )
    assert more_of_drafter.sum() == 5 * of_drafter.sum()  # the n-grams name a child where the drafter has not
    assert more_nodes.label.tolist()[::5] == nodes.label.tolist()


def test_no_document_is_on_two_sides_of_the_split(folder):
    data = SelectorData(folder, FIT, max_depth=MAX_DEPTH)
    sides = [[set(rows.document) for rows in sample] for sample in (data.training, data.validation, data.test)]
    assert [[len(documents) for documents in side] for side in sides] == [[2, 2], [1, 1], [1, 1]]
    assert len(set().union(*(edges for edges, _ in sides))) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_two_documents_are_too_few(tmp_path, count):
    folder = traces.write(tmp_path / "few", count)
    with pytest.raises(InputError, match="no documents to train on, none to validate on or none to test on"):
        SelectorData(folder, FIT, max_depth=MAX_DEPTH)


def test_an_epoch_sees_every_training_row_once_and_no_held_out_one(folder):
    data = SelectorData(folder, FIT, max_depth=MAX_DEPTH)
    seen = np.concatenate([batch.edge_features.numpy() for batch in data.train_dataloader()])
    edges, _ = rows_of(folder)
    wanted = edges.features[np.isin(edges.document, data.training[0].document)]
    np.testing.assert_array_equal(seen[np.lexsort(seen.T)], wanted[np.lexsort(wanted.T)])
