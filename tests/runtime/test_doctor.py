"""The `doctor` command."""

import json
from pathlib import Path

from treewright import cli


def report(capsys, *arguments):
    assert cli.main(["doctor", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_prints_one_document_whose_self_test_passes(capsys):
    document = report(capsys, "--pair.threads", "1")
    assert document["self_test"]["texts_equal"]
    assert document["self_test"]["block_efficiency"] > 1
    assert document["versions"]["torch"]
    assert document["cpu"]["cores"] >= 1
    assert "CPUExecutionProvider" in document["onnxruntime_providers"]
    assert document["threads"]["torch"] == 1


def test_a_pair_that_cannot_be_loaded_is_part_of_the_report(capsys):
    document = report(capsys, "--pair.target", "/nowhere")
    assert "/nowhere" in document["self_test"]["error"]


def test_the_cache_folder_is_shown_without_the_home_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = report(capsys, "--pair.target", "/nowhere")["cache"]
    assert cache == {"folder": "~/cache/treewright/latency", "writable": True, "latency_tables": 0}
