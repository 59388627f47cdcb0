"""Recordings are read shard by shard, and each text brings what was known of it alone."""

import numpy as np
import pytest
import traces
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.controller.contract import FIXED
from treewright.controller.learned.history import histories
from treewright.train.replay.recording import planned_recordings, read_recordings

ENVELOPES = EnvelopeConfig(3, max_depth=2, frontier=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three texts in two shards."""
    return traces.write(tmp_path_factory.mktemp("runs") / "traces", 3, max_tokens=12, draws=2, envelopes=ENVELOPES)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A warm and a greedy text, as a collector under the fixed scheme records them."""
    return traces.write_enveloped(tmp_path_factory.mktemp("runs") / "traces", (0.8, 0.0), max_tokens=6, scheme=FIXED)


def test_each_text_has_its_own_tokens_history_and_envelopes(folder):
    texts, positions, nodes = (folder.read(table).to_pylist() for table in ("texts", "positions", "nodes"))
    recordings = read_recordings(folder)
    assert [recording.text_id for recording in recordings["coupled"]] == [text["text_id"] for text in texts]
    for scheme, of_scheme in recordings.items():
        for text, recording in zip(texts, of_scheme, strict=True):
            own = [row for row in positions if row["text_id"] == text["text_id"] and row["draw"] == 0]
            columns = (np.array([row[name] for row in own]) for name in ("target_log_prob", "target_entropy"))
            assert recording.tokens.tolist() == text["tokens"]
            assert recording.history.tolist() == histories(*columns).tolist()
            grown = [row for row in nodes if (row["text_id"], row["scheme"]) == (text["text_id"], scheme)]
            assert {root: envelope.tokens.tolist() for root, envelope in recording.envelopes.items()} == {
                row["position"]: row["tokens"] for row in grown
            }


def test_greedy_texts_stand_under_every_scheme(mixed):
    recordings = read_recordings(mixed)
    assert [[text.temperature for text in of_scheme] for of_scheme in recordings.values()] == [[0.8, 0.0]] * 2
    assert recordings["coupled"][1] is recordings["fixed"][1]


def test_a_plan_counts_the_recordings_that_are_read(folder, mixed, tmp_path):
    for traced in (folder, mixed, traces.write(tmp_path / "bare", count=1, max_tokens=4)):
        read = read_recordings(traced)
        assert {
            scheme: [tuple(text) for text in of_scheme] for scheme, of_scheme in planned_recordings(traced).items()
        } == {scheme: [(text.document, text.temperature) for text in of_scheme] for scheme, of_scheme in read.items()}


def test_positions_of_a_shard_without_envelopes_are_not_read(tmp_path):
    """Rows of texts without envelopes are not read, so memory grows only with what is replayed."""
    folder = traces.write(tmp_path / "traces", 3, max_tokens=4, envelopes=EnvelopeConfig(1, 1, 1), enveloped={0})
    folder.shard_file("positions", 1).write_bytes(b"no Parquet file")
    assert [recording.document for recording in read_recordings(folder)["coupled"]] == [
        text.document for text in planned_recordings(folder)["coupled"]
    ]
    assert len(read_recordings(folder)["coupled"]) == 1
