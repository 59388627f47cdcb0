"""Stored texts get the labels they had, more of them, or a sentence; collecting again writes nothing of its own."""

import errno
import hashlib
import json
import shutil
from dataclasses import asdict, replace

import faults
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rows
import traces
from treewright import cli
from treewright.collect.trace import PRIVACY, TABLES, TraceFolder, read_texts
from treewright.collect.trace.journal import Journal, journal_file
from treewright.collect.trace.manifest import Manifest
from treewright.collect.trace.schema import POSITIONS, TEXTS
from treewright.controller import files
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig

PAIR = ["--pair.threads", "1", "--profile.repeats", "1"]
OLD_NAMES = {"coupled_rank": "rank"}
LABELS = ["--draws", "2", "--envelopes.texts", "2", "--envelopes.max_depth", "3"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Five texts of the reference pair, at all temperatures and with a nucleus cut."""
    out = tmp_path_factory.mktemp("runs") / "traces"
    texts = ["--prompts.limit", "5", "--texts.max_tokens", "10", "--texts.top_p", "0.9"]
    assert cli.main(["collect", "--out", str(out), *PAIR, *texts, *LABELS]) == 0
    return TraceFolder.open(out)


def relabelled(source, out, *options):
    assert cli.main(["collect", "--relabel", str(source), "--out", str(out), *PAIR, *options]) == 0
    return TraceFolder.open(out)


def test_the_same_labels_are_the_rows_that_collect_wrote(collected, tmp_path):
    again = relabelled(collected.path, tmp_path / "again", *LABELS)
    assert again.read("nodes").num_rows > 0
    assert rows.contents(again) == rows.contents(collected)
    assert again.files.keys() == collected.files.keys()  # a busy machine may have the prices measured again


def test_more_draws_leave_the_ones_before_them_as_they_were(collected, tmp_path):
    again = relabelled(collected.path, tmp_path / "again", "--draws", "3").read("positions").to_pylist()
    assert max(row["draw"] for row in again) == 2
    assert [row for row in again if row["draw"] < 2] == collected.read("positions").to_pylist()


def test_another_scheme_ranks_the_candidates_without_the_noise(collected, tmp_path):
    again = relabelled(collected.path, tmp_path / "again", "--scheme", "fixed", "--draws", "2")
    assert again.header.scheme == "fixed"
    for row in again.read("positions").to_pylist():
        rank = row["fixed_rank"]
        assert row["candidates"][rank] == row["emitted"] if rank >= 0 else row["emitted"] not in row["candidates"]
    ranks = ["text_id", "position", "draw", "coupled_rank", "fixed_rank"]
    some = collected.read("positions").select(ranks).to_pylist()
    assert [row for row in again.read("positions").select(ranks).to_pylist() if row["draw"] < 2] == some


def test_drafts_are_drawn_anew_with_a_memory(collected, tmp_path):
    again = relabelled(collected.path, tmp_path / "again", *LABELS, "--memory.window", "16", "--memory.beta", "9")
    assert collected.header.memory is None
    assert again.header.memory == MemoryConfig(window=16, beta=9.0)
    unmoved, moved = ("position", "emitted", "target_log_prob"), ("draft_entropy", "candidate_log_probs")
    before, after = (folder.read("positions") for folder in (collected, again))
    assert after.select(unmoved) == before.select(unmoved)
    assert all(after[name] != before[name] for name in moved)
    assert again.read("nodes")["log_probs"] != collected.read("nodes")["log_probs"]


def test_names_and_tokens_can_be_left_out_now(collected, tmp_path):
    again = relabelled(collected.path, tmp_path / "again", "--privacy", "features")
    assert again.read("texts")["document"].to_pylist() == [f"document {number}" for number in range(5)]
    assert again.header.omitted == PRIVACY["features"]
    assert "texts_sha256" in collected.header.command and "texts_sha256" not in again.header.command


def test_a_run_that_was_cut_short_goes_on(collected, tmp_path, monkeypatch, capsys):
    out = tmp_path / "again"
    # On a busy machine some of the runs measure the prices again, and store them: their calls differ.
    for failing in [*range(10, 200, 5)] * 3:
        shutil.rmtree(out, ignore_errors=True)
        monkeypatch.setattr(files, "os", faults.FailingOs(failing, errno.ENOSPC))
        arguments = ["--relabel", str(collected.path), "--out", str(out), *PAIR, *LABELS, "--batch", "1"]
        code = cli.main(["collect", *arguments])
        monkeypatch.setattr(files, "os", faults.os)
        if code == 0:  # all was written by fewer calls
            continue
        assert code == 2 and "cannot be written (No space left on device)" in capsys.readouterr().err.splitlines()[-1]
        if (out / "manifest.json").exists() and 0 < read_journaled(out) < 5:
            break
    assert 0 < read_journaled(out) < 5
    again = relabelled(collected.path, out, *LABELS, "--batch", "1")
    assert rows.contents(again) == rows.contents(collected)


def read_journaled(path):
    with TraceFolder.create(path, Manifest.read(path).header) as folder:
        return folder.num_texts


def test_machines_share_the_texts(collected, tmp_path):
    shards = [relabelled(collected.path, tmp_path / n, *LABELS, "--shard", f"{n}/2") for n in ("1", "2")]
    merged = tmp_path / "merged"
    assert cli.main(["collect", "--out", str(merged), "--merge", f"[{shards[0].path}, {shards[1].path}]"]) == 0
    both = [sorted(folder.read("positions").to_pylist(), key=str) for folder in (TraceFolder.open(merged), collected)]
    assert both[0] == both[1]


def refused(arguments, complaint, capsys):
    assert cli.main([str(argument) for argument in arguments]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert complaint in sentence


@pytest.mark.parametrize("option", [("--prompts.limit", "3"), ("--texts.temperatures", "[1.0]")])
def test_options_of_writing_are_refused(option, collected, tmp_path, capsys):
    arguments = ["collect", "--relabel", collected.path, "--out", tmp_path / "out", *option]
    refused(arguments, f"with --relabel the following does nothing: {option[0][2:].partition('.')[0]};", capsys)


def test_relabelling_and_merging_at_once_is_refused(collected, tmp_path, capsys):
    arguments = ["collect", "--relabel", collected.path, "--merge", f"[{collected.path}]", "--out", tmp_path / "out"]
    refused(arguments, "with --merge the following does nothing: relabel;", capsys)


def test_options_of_labels_are_refused_where_folders_are_merged(collected, tmp_path, capsys):
    arguments = ["collect", "--merge", f"[{collected.path}]", "--out", tmp_path / "out", "--width", "2", *PAIR]
    refused(arguments, "with --merge the following does nothing: pair, profile, width;", capsys)


def test_texts_without_tokens_are_refused(tmp_path, capsys):
    with TraceFolder.create(tmp_path / "features", rows.header(omitted=PRIVACY["features"])) as folder:
        rows.fill(folder, 1)
        folder.finish()
    arguments = ["collect", "--relabel", folder.path, "--out", tmp_path / "out"]
    refused(arguments, "leave texts.tokens out for privacy", capsys)


def test_texts_of_another_tokenizer_are_refused(tmp_path, capsys):
    stored = traces.write(tmp_path / "tiny", count=1, max_tokens=4)
    arguments = ["collect", "--relabel", stored.path, "--out", tmp_path / "out", *PAIR]
    refused(arguments, "whose tokenizer differs from that of 'reference'", capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("num_texts", "complaint"), [(0, "holds no texts yet"), (1, "was not collected to its end")])
def test_a_folder_without_all_its_texts_is_refused(num_texts, complaint, tmp_path, capsys):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as folder:
        rows.fill(folder, num_texts)
        if not num_texts:
            folder.finish()
    refused(["collect", "--relabel", folder.path, "--out", tmp_path / "out"], complaint, capsys)


def test_the_folder_itself_is_not_written_over(collected, capsys):
    arguments = ["collect", "--relabel", collected.path, "--out", collected.path, *PAIR, *LABELS]
    refused(arguments, "holds traces of another run", capsys)


def as_schema(version, folder, path):
    """The folder as an earlier build wrote it: 8 with a "law" for the scheme, 7 with a rank under the trace's own
    scheme, 6 with n-grams that drafted nothing, 5 without them, 4 with settings in float32, and no choice."""
    shutil.copytree(folder.path, path)
    types = {"temperature": pa.float32(), "top_p": pa.float32(), "seed": pa.int64()} if version == 4 else {}
    fields = [pa.field(field.name, types.get(field.name, field.type)) for field in TEXTS]
    old = {
        "texts": pa.schema([field for field in fields if version > 4 or field.name != "choice"]),
        "positions": pa.schema([field for field in POSITIONS if version > 6 or "ngram" not in field.name]),
    }
    for shard in folder.shards:
        for name in shard.sha256:
            if schema := old.get(name.partition("-")[0]):
                table = pq.read_table(path / name).select(schema.names).cast(schema)
                pq.write_table(table.rename_columns([OLD_NAMES.get(each, each) for each in schema.names]), path / name)
                shard.sha256[name] = files.sha256(path / name)
    content = json.loads((path / "manifest.json").read_text())
    header = asdict(replace(TraceFolder.open(folder.path).header, schema_version=version))
    header["law"] = header.pop("scheme")
    content |= {"header": header, "shards": [asdict(shard) for shard in folder.shards]}
    del content["sha256"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(content | {"sha256": digest}))


@pytest.mark.parametrize("version", [4, 5, 6, 7, 8])
def test_texts_of_the_schemas_before_are_brought_up_to_date(collected, tmp_path, capsys, version):
    as_schema(version, TraceFolder.open(collected.path), tmp_path / "old")
    with pytest.raises(InputError, match=f"trace schema {version}, this build reads 9; bring its texts up to date"):
        TraceFolder.open(tmp_path / "old")
    assert read_texts(tmp_path / "old").table == collected.read("texts")
    again = relabelled(tmp_path / "old", tmp_path / "new", *LABELS)
    assert {table: again.read(table) for table in TABLES} == rows.contents(collected)


def test_texts_that_an_older_server_has_not_sealed_are_read(tmp_path):
    """Its journal holds the other tables' columns of that schema, too."""
    header = rows.header(scheme="", width=0)
    with TraceFolder.create(tmp_path / "served", header) as folder:
        Manifest(replace(header, schema_version=7)).write(folder.path)
    names = [OLD_NAMES.get(name, name) for name in POSITIONS.names]
    old = pa.schema([POSITIONS.field(number).with_name(name) for number, name in enumerate(names)])
    journal = Journal(journal_file(folder.path, 0), header.schemas | {"positions": old})
    text = rows.of_text(3)["texts"]
    journal.append(rows.typed({"texts": text}))
    journal.close()
    assert read_texts(folder.path).table.to_pylist() == text


def test_labels_of_shapes_are_added_to_the_texts_that_were_sampled(collected, tmp_path):
    again = relabelled(
        collected.path, tmp_path / "again", "--shapes.labels", "true", "--shapes.every", "5", "--draws", "2"
    )
    sampled = [row for row in collected.read("positions").to_pylist() if row["draw"] == 0 and row["temperature"] > 0]
    labels = again.read("shapes").to_pylist()
    names = ["text_id", "position", "temperature", "top_p", "target_log_prob"]
    assert [[row[name] for name in names] for row in labels] == [[row[name] for name in names] for row in sampled]
    assert sum(len(row["traversal"]) == 216 for row in labels) == 2 * len({row["text_id"] for row in labels})
    assert again.read("positions") == collected.read("positions")


def test_labels_of_shapes_of_greedy_texts_alone_are_refused(tmp_path, capsys):
    arguments = ["collect", "--out", tmp_path / "out", "--texts.temperatures", "[0.0]", "--shapes.labels", "true"]
    refused(arguments, "shapes.labels are of texts drawn at temperatures above 0, and there are none", capsys)
