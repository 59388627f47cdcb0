"""Shards count when the manifest lists them, and only whole and unchanged."""

import json

import pyarrow as pa
import pytest
import traces
from treewright.collect.trace import TraceFolder, TraceHeader
from treewright.controller.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return traces.write(tmp_path / "traces")


def test_what_was_written_reads_back(folder):
    again = TraceFolder.open(folder.path)
    assert again.header == folder.header
    assert again.positions().equals(folder.positions())
    assert again.texts().num_rows == 4


def test_positions_follow_their_texts_in_order(folder):
    rows = folder.positions().to_pylist()
    assert [(row["text_id"], row["position"]) for row in rows] == sorted((r["text_id"], r["position"]) for r in rows)


def test_a_shard_the_manifest_does_not_list_does_not_count(folder):
    orphan = folder.path / "positions-00002.parquet"
    orphan.write_bytes((folder.path / "positions-00000.parquet").read_bytes())
    assert TraceFolder.open(folder.path).positions().num_rows == folder.positions().num_rows


def test_a_run_killed_between_shard_and_manifest_resumes_behind_the_last_whole_shard(folder):
    manifest = folder.path / "manifest.json"
    content = json.loads(manifest.read_text())
    TraceFolder(folder.path, folder.header, content["shards"][:1])._write_manifest()
    resumed = TraceFolder.create(folder.path, traces.header())
    assert len(resumed.shards) == 1
    resumed.append(
        {"texts": folder.texts().to_pylist()[-2:], "positions": folder.positions().to_pylist()[-2:], "nodes": []}
    )
    assert TraceFolder.open(folder.path).texts().num_rows == 4


def test_a_folder_of_another_run_is_not_resumed(folder):
    with pytest.raises(ValueError, match="another run"):
        TraceFolder.create(folder.path, traces.header(width=7))


@pytest.mark.parametrize("number", range(0, 4000, 97))
def test_a_flipped_bit_is_refused_or_harmless(folder, number):
    """One flipped bit anywhere in the folder: the same rows come back, or a sentence."""
    before = folder.positions()
    files = sorted(path for path in folder.path.iterdir())
    file = files[number % len(files)]
    content = bytearray(file.read_bytes())
    content[(number * 7919) % len(content)] ^= 1 << number % 8
    file.write_bytes(content)
    try:
        opened = TraceFolder.open(folder.path)
    except InputError:
        return
    assert opened.header == folder.header
    assert opened.positions().equals(before)


def test_the_files_can_be_read_as_a_dataset(folder, tmp_path):
    import datasets

    files = [str(path) for path in sorted(folder.path.glob("positions-*.parquet"))]
    loaded = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == folder.positions().num_rows


def test_an_empty_folder_has_the_schemas_columns(tmp_path):
    empty = TraceFolder.create(tmp_path / "new", TraceHeader("tiny", "coupled", "0", 3, {}))
    assert isinstance(empty.positions(), pa.Table)
    assert empty.positions().num_rows == 0
