"""What was appended reads back, once and only whole."""

import json

import numpy as np
import pyarrow as pa
import pytest
import rows
import traces
from treewright.collect.trace import PRIVACY, TABLES, TraceFolder
from treewright.collect.trace.merge import merge
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.train.data.rows import read_rows


def write(path, numbers, shard_texts=2, **header):
    with TraceFolder.create(path, rows.header(**header), shard_texts) as folder:
        for number in numbers:
            folder.append(rows.typed(rows.of_text(number)))
        folder.finish()
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "traces", range(5))


def test_what_was_written_reads_back(folder):
    again = TraceFolder.open(folder.path)
    assert again.header == folder.header
    assert rows.contents(again) == rows.contents(folder) == rows.expected(5)


def test_a_shard_is_sealed_when_it_is_full_and_the_rest_at_the_end(folder):
    assert [shard.num_rows["texts"] for shard in folder.shards] == [2, 2, 1]
    assert not list(folder.path.glob("journal-*"))


def test_batches_hold_the_same_rows_as_the_table(folder):
    batches = list(folder.iterate("positions", ["position", "fixed_rank"], batch_rows=4))
    assert all(batch.num_rows <= 4 for batch in batches)
    assert pa.Table.from_batches(batches) == folder.read("positions").select(["position", "fixed_rank"])


def test_reading_by_batches_takes_the_memory_of_one_shard(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header(), shard_texts=20) as folder:
        for start in range(0, 400, 20):
            texts = [rows.of_text(number) for number in range(start, start + 20)]
            folder.append(rows.typed({table: [row for text in texts for row in text[table]] for table in TABLES}))
        folder.finish()
    before, most = pa.total_allocated_bytes(), 0
    for _ in folder.iterate("positions", batch_rows=20):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < folder.read("positions").nbytes / 5


def test_an_unfinished_folder_cannot_be_read(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as folder:
        rows.fill(folder, 3)
    with pytest.raises(InputError, match="not collected to its end; run the same `treewright collect` again"):
        TraceFolder.open(folder.path)


def test_an_unfinished_folder_resumes_behind_its_last_text(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header(), 2) as folder:
        rows.fill(folder, 3)
    with TraceFolder.create(folder.path, rows.header(), 2) as resumed:
        assert resumed.num_texts == 3
        rows.fill(resumed, 5)
        resumed.finish()
    assert rows.contents(TraceFolder.open(folder.path)) == rows.expected(5)


def test_half_a_record_in_the_journal_is_dropped(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as folder:
        rows.fill(folder, 3)
    journal = folder.path / "journal-00000.arrows"
    journal.write_bytes(journal.read_bytes()[:-1])
    with TraceFolder.create(folder.path, rows.header()) as resumed:
        assert resumed.num_texts == 2


def test_a_sealed_journal_that_was_not_removed_in_time_does_not_count_twice(folder):
    (folder.path / "journal-00002.arrows").write_bytes(b"killed between manifest and removal")
    with TraceFolder.create(folder.path, rows.header()) as resumed:
        assert resumed.num_texts == 5
    assert not list(folder.path.glob("journal-*"))


def test_two_collectors_do_not_share_a_folder(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as first:
        with pytest.raises(InputError, match="being written by another"):
            TraceFolder.create(first.path, rows.header())
        rows.fill(first, 2)
        first.finish()
    assert TraceFolder.open(first.path).num_texts == 2


def test_a_folder_of_another_run_is_not_resumed(folder):
    with pytest.raises(InputError, match="another run"):
        TraceFolder.create(folder.path, rows.header(width=7))


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is no trace folder"):
        TraceFolder.create(tmp_path, rows.header())
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_attached_file_is_vouched_for(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as folder:
        folder.attach("latency.json", b"{}")
        folder.finish()
    (folder.path / "latency.json").write_bytes(b"[]")
    with pytest.raises(InputError, match=r"latency\.json is missing or damaged"):
        TraceFolder.open(folder.path)


def test_an_edited_manifest_is_refused(folder):
    content = json.loads((folder.path / "manifest.json").read_text())
    content["header"]["width"] = 4
    (folder.path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="its own SHA-256 differs"):
        TraceFolder.open(folder.path)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_files_are_a_dataset(folder, tmp_path, streaming):
    import datasets

    files = {"train": str(folder.path / "positions-*.parquet")}
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache, streaming=streaming)
    assert [row["fixed_rank"] for row in loaded] == folder.read("positions")["fixed_rank"].to_pylist()


def test_an_empty_folder_has_the_schemas_columns(tmp_path):
    empty = write(tmp_path / "new", [])
    assert rows.contents(empty) == rows.expected(0)


def test_features_mode_stores_no_token(tmp_path):
    with TraceFolder.create(tmp_path / "traces", rows.header(omitted=PRIVACY["features"]), 2) as folder:
        rows.fill(folder, 3)
        journal = next(folder.path.glob("journal-*")).read_bytes()
        folder.finish()
    assert b"candidates" not in journal and b"emitted" not in journal
    stored = {f"{table}.{name}" for table in TABLES for name in folder.read(table).column_names}
    assert stored == {f"{table}.{name}" for table in TABLES for name in TABLES[table].names} - set(PRIVACY["features"])


def test_a_column_left_out_for_privacy_is_refused_in_a_sentence(tmp_path):
    folder = write(tmp_path / "traces", range(2), omitted=PRIVACY["features"])
    with pytest.raises(InputError, match=r"leave texts\.tokens out for privacy"):
        folder.read("texts", ["tokens"])


def test_training_needs_no_token(tmp_path):
    whole = traces.write(tmp_path / "whole", max_tokens=12)
    with TraceFolder.create(tmp_path / "features", traces.header(omitted=PRIVACY["features"])) as features:
        features.append(rows.typed({table: whole.read(table).to_pylist() for table in TABLES}))
        features.finish()
    whole, features = (TraceFolder.open(folder.path) for folder in (whole, features))
    for kind in (0, 1):  # edges, nodes
        all_columns, without_tokens = (sorted_features(folder, kind) for folder in (whole, features))
        np.testing.assert_array_equal(without_tokens, all_columns)


def sorted_features(folder, kind):
    parts = [rows[kind] for rows in read_rows(folder, 3, np.arange(len(folder.shards)))]
    table = np.column_stack((np.concatenate([p.features for p in parts]), np.concatenate([p.label for p in parts])))
    return table[np.lexsort(table.T)]


@pytest.fixture
def shards(tmp_path):
    """Texts 0 to 4 of one run on two machines."""
    return [write(tmp_path / str(n), range(n - 1, 5, 2), shard=f"{n}/2", shard_texts=2).path for n in (1, 2)]


def test_merged_shards_hold_every_text_once(shards, tmp_path):
    merged = TraceFolder.open(merge(tmp_path / "merged", shards[::-1]).path)
    assert merged.header == rows.header(shard="*/2")
    for table, whole in rows.expected(5).items():
        by_text = merged.read(table).take(pa.array(sorted_rows(merged.read(table))))
        assert by_text == whole


def sorted_rows(table):
    """Row numbers by text, in order within each."""
    return sorted(range(table.num_rows), key=lambda row: (table["text_id"][row].as_py(), row))


def test_a_merge_that_was_cut_short_is_resumed(shards, tmp_path):
    whole = merge(tmp_path / "whole", shards)
    with TraceFolder.create(tmp_path / "merged", whole.header) as begun:
        contents = {table: whole.shard_file(table, 0).read_bytes() for table in TABLES}
        begun.add_shard(contents, whole.shards[0].num_rows)
    assert rows.contents(merge(begun.path, shards)) == rows.contents(whole)


def test_a_missing_shard_is_named(shards, tmp_path):
    with pytest.raises(InputError, match="of 2 shards 2 is missing"):
        merge(tmp_path / "merged", shards[:1])
    assert not (tmp_path / "merged").exists()


def test_a_shard_given_twice_is_refused(shards, tmp_path):
    with pytest.raises(InputError, match="hold shards 1, 1, 2; give each shard once"):
        merge(tmp_path / "merged", [*shards, shards[0]])


def test_shards_of_two_runs_are_refused(shards, tmp_path):
    other = write(tmp_path / "other", [1], shard="2/2", scheme="fixed")
    with pytest.raises(InputError, match="is of another run"):
        merge(tmp_path / "merged", [shards[0], other.path])


def test_a_folder_says_which_memory_corrected_its_drafts_and_is_merged_with_no_other(shards, tmp_path):
    memory = MemoryConfig(window=16, eta=2.0)
    other = write(tmp_path / "other", [1], shard="2/2", memory=memory)
    assert TraceFolder.open(other.path).header.memory == memory
    with pytest.raises(InputError, match=r"is of another run than .*, which differs in memory;"):
        merge(tmp_path / "merged", [shards[0], other.path])


def test_a_text_in_two_shards_is_refused(shards, tmp_path):
    other = write(tmp_path / "other", [1, 2], shard="2/2")
    with pytest.raises(InputError, match="holds text 00000002, which is there already"):
        merge(tmp_path / "merged", [shards[0], other.path])


def test_an_unfinished_shard_is_refused(shards, tmp_path):
    TraceFolder.create(tmp_path / "other", rows.header(shard="2/2")).close()
    with pytest.raises(InputError, match="not collected to its end"):
        merge(tmp_path / "merged", [shards[0], tmp_path / "other"])
