"""Served texts are on the disk when they are answered, become training rows, and never stand in a request's way."""

import errno
import time
from dataclasses import replace

import faults
import numpy as np
import pytest
import rows
import tiny
import torch
from serving import complete, make_decoder, serving
from treewright import cli
from treewright.collect.labels.recorder import RunConfig, record_rows
from treewright.collect.relabel import stored_texts
from treewright.collect.served import ServedTexts
from treewright.collect.trace import TraceFolder, TraceHeader, read_texts
from treewright.controller import files
from treewright.controller.errors import InputError
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.worker import Totals
from treewright.train.data.rows import read_rows

PAIR = tiny.pair()


def served(path, *bodies, observer=None, totals=None):
    """The answers of a server that records into the folder."""
    with ServedTexts.open(path, PAIR) as keep, serving(observer, totals, keep) as (client, _):
        return [complete(client, **body) for body in bodies]


def texts_of(path):
    return read_texts(path).table.to_pylist()


def decoded(sampling, prompt=(1, 2, 3)):
    (stream,), _ = make_decoder().generate([Request(prompt, 12, sampling)])
    return [*prompt, *stream.token_ids]


def test_every_text_is_kept_with_all_that_it_depends_on(tmp_path):
    served(tmp_path / "served", {"n": 2, "temperature": 0.7, "top_k": 6, "seed": 2**63 - 1}, {"top_p": 0.8, "seed": 9})
    samplings = [Sampling(0.7, 6, 1.0, 2**63 - 1, choice) for choice in (0, 1)] + [Sampling(1.0, 0, 0.8, 9)]
    stored = texts_of(tmp_path / "served")
    assert [text["tokens"] for text in stored] == [decoded(sampling) for sampling in samplings]
    names = ("temperature", "top_k", "top_p", "seed", "choice")
    assert [Sampling(*(text[name] for name in names)) for text in stored] == samplings
    assert {text["domain"] for text in stored} == {"served"}


def relabel(source, out):
    """What `collect --relabel` does, with the tiny pair."""
    texts = stored_texts(source).open(PAIR)(range(len(texts_of(source))))
    header = TraceHeader("tiny", "coupled", PAIR.tokenizer_sha256, 3, {})
    with TraceFolder.create(out, header) as folder:
        folder.append(record_rows(PAIR, texts, [False] * len(texts), RunConfig(width=3, draws=2)))
        folder.finish()
    return TraceFolder.open(out)


def test_served_texts_become_training_rows(tmp_path):
    bodies = [{"n": 2}, {"temperature": 0.6, "top_k": 5}, {"temperature": 0}, {"top_p": 0.7, "seed": None}]
    served(tmp_path / "served", *bodies)
    traces = relabel(tmp_path / "served", tmp_path / "traces")
    assert traces.read("texts")["num_ties"].to_pylist() == [0] * 5  # the noise drawn again is each text's own
    (edges, nodes), *_ = read_rows(traces, 3, np.arange(1))
    assert len(edges.label) > 100 and 0.0 < edges.label.mean() < 1.0
    assert (nodes.depth == 0).sum() > 5 * 12


def test_a_text_is_there_while_the_server_runs_on(tmp_path):
    with ServedTexts.open(tmp_path / "served", PAIR) as keep, serving(keep_text=keep) as (client, _):
        for count in (1, 2, 3):
            complete(client)
            assert len(texts_of(tmp_path / "served")) == count


def test_the_next_server_goes_on_in_the_same_folder(tmp_path):
    for seed in (1, 2):
        served(tmp_path / "served", {"seed": seed})
    stored = texts_of(tmp_path / "served")
    assert [text["seed"] for text in stored] == [1, 2]
    assert [text["text_id"] for text in stored] == ["00000000", "00000001"]


def test_texts_of_one_prompt_are_one_document(tmp_path):
    served(tmp_path / "served", {"n": 2}, {"seed": 6}, {"prompt": "w3"})
    first, second, third, other = (text["document"] for text in texts_of(tmp_path / "served"))
    assert first == second == third != other


def fail(record):
    raise RuntimeError("this step fails on purpose")


def test_a_text_that_did_not_end_is_not_kept(tmp_path):
    (answer,) = served(tmp_path / "served", {}, observer=fail)
    assert answer.status_code == 500
    assert texts_of(tmp_path / "served") == []


def test_a_full_disk_is_logged_once_and_every_request_is_answered(tmp_path, monkeypatch, caplog):
    totals = Totals()
    with ServedTexts.open(tmp_path / "served", PAIR) as keep, serving(None, totals, keep) as (client, _):
        whole = complete(client).json()["choices"]
        monkeypatch.setattr(files, "os", faults.FailingOs(1, errno.ENOSPC))
        assert [complete(client).json()["choices"] for _ in range(3)] == [whole] * 3
    assert totals.texts_recorded == 1 and totals.texts_unrecorded == 3
    (logged,) = (record.getMessage() for record in caplog.records if record.name.startswith("treewright"))
    assert logged.startswith("texts are not recorded, while serving goes on: ")
    assert "cannot be written (No space left on device)" in logged
    monkeypatch.setattr(files, "os", faults.os)
    served(tmp_path / "served", {})
    assert len(texts_of(tmp_path / "served")) == 2


def test_once_the_disk_has_room_texts_are_recorded_again(tmp_path, monkeypatch, caplog):
    path, totals = tmp_path / "served", Totals()
    with ServedTexts.open(path, PAIR, retry_seconds=0.01) as keep, serving(None, totals, keep) as (client, _):
        complete(client)
        for kept in (2, 3):
            monkeypatch.setattr(files, "os", faults.FullOs())
            assert [complete(client).status_code for _ in range(3)] == [200] * 3
            time.sleep(0.05)  # some tries to go on fail
            assert totals.texts_recorded == kept - 1
            monkeypatch.setattr(files, "os", faults.os)
            while totals.texts_recorded < kept:
                complete(client, seed=kept)
    assert [text["text_id"] for text in texts_of(path)] == ["00000000", "00000001", "00000002"]
    assert [text["seed"] for text in texts_of(path)] == [5, 2, 3]
    assert caplog.text.count("texts are not recorded") == caplog.text.count("texts are recorded again") == 2


def test_a_folder_of_other_weights_or_another_number_format_is_refused_by_what_differs(tmp_path):
    served(tmp_path / "served", {})
    half = replace(PAIR, target=tiny.llama(dtype=torch.bfloat16))
    for pair, differing in ((tiny.pair(drafter_noise=0.03), "drafter_sha256"), (half, "dtype")):
        with pytest.raises(InputError, match=rf"holds traces of another run, which differs in {differing};"):
            ServedTexts.open(tmp_path / "served", pair)


def test_a_pair_whose_folders_were_renamed_goes_on(tmp_path):
    served(tmp_path / "served", {})
    with ServedTexts.open(tmp_path / "served", tiny.pair(name="renamed")) as keep:
        assert keep(Request([1, 2], 4, Sampling()), [3, 4])
    assert len(texts_of(tmp_path / "served")) == 2


def test_a_folder_of_collected_traces_is_refused_by_the_command(tmp_path, capsys):
    with TraceFolder.create(tmp_path / "traces", rows.header()) as folder:
        folder.finish()
    assert cli.main(["serve", "--port", "0", "--record", str(folder.path), "--pair.threads", "1"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "holds traces of another run" in sentence


def test_training_asks_for_labels_first(tmp_path):
    served(tmp_path / "served", {})
    with pytest.raises(InputError, match="holds texts without labels; `treewright collect --relabel"):
        TraceFolder.open(tmp_path / "served")


def test_texts_that_other_weights_generated_are_labelled_with_a_warning(tmp_path, caplog):
    served(tmp_path / "served", {})
    stored = stored_texts(tmp_path / "served")
    stored.open(replace(PAIR, source=tiny.llama(noise=0.03)))
    assert not caplog.records  # another drafter is what relabelling is for
    stored.open(replace(PAIR, target=tiny.llama(seed=3)))
    assert "were generated by other weights than tiny-target has" in caplog.text
