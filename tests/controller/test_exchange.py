"""Checkpoints over the hub, here a small one on a loopback port."""

import json
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from checkpoints import write
from hub import Hub
from treewright import cli
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.checkpoint.saving import FILES
from treewright.controller.errors import InputError

DOWNLOAD = "/{repo_id}/resolve/{revision}/{filename}"
REPO = "somebody/selector"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "selector")


@pytest.fixture
def online(tmp_path, monkeypatch):
    """The hub's client may use the network, with a cache and a token of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture
def hub(online, monkeypatch):
    with Hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + DOWNLOAD)
        yield hub


def run(arguments, capsys) -> tuple[int, Any, str]:
    """Exit code, the last line of stdout as JSON, None for no output, and stderr."""
    code = cli.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, json.loads(output.out.splitlines()[-1]) if output.out else None, output.err


def test_what_is_pushed_is_pulled_byte_for_byte(hub, folder, tmp_path, capsys):
    (folder / "notes.txt").write_text("private")
    code, pushed, _ = run(["checkpoint", "push", "--folder", folder, "--repo", REPO], capsys)
    assert code == 0
    assert set(hub.repos[REPO]) == set(FILES)
    assert pushed["commit"].endswith(hub.commit(REPO))
    code, pulled, _ = run(["checkpoint", "pull", "--repo", REPO, "--out", tmp_path / "out"], capsys)
    assert code == 0
    assert pulled["commit"] == hub.commit(REPO)
    assert contents(tmp_path / "out") == {name: (folder / name).read_bytes() for name in FILES}


def test_a_hub_id_loads_like_a_folder_at_a_pinned_commit(hub, folder):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    commit = hub.commit(REPO)
    assert Checkpoint.from_pretrained(REPO, revision=commit).files == Checkpoint.from_pretrained(folder).files
    assert Checkpoint.from_pretrained(REPO).config == Checkpoint.from_pretrained(folder).config


def test_a_commit_fetched_before_loads_offline(hub, folder, monkeypatch):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    online = Checkpoint.from_pretrained(REPO, revision=hub.commit(REPO))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert Checkpoint.from_pretrained(REPO, revision=hub.commit(REPO)).files == online.files


def test_a_folder_wins_over_a_hub_id(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    assert Checkpoint.from_pretrained(f"{folder.parent.name}/{folder.name}").config.pair == "tiny"
    assert hub.downloaded == []


def test_only_our_files_are_fetched(hub, folder):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    hub.repos[REPO] |= {"pytorch_model.bin": b"a pickle", "model.onnx.data": b"more"}
    Checkpoint.from_pretrained(REPO)
    assert sorted(hub.downloaded) == sorted(FILES)


def test_a_checkpoint_damaged_on_the_hub_leaves_no_folder(hub, folder, tmp_path, capsys):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    hub.repos[REPO]["model.onnx"] = hub.repos[REPO]["model.onnx"][:-1]
    code, document, error = run(["checkpoint", "pull", "--repo", REPO, "--out", tmp_path / "out"], capsys)
    assert (code, document) == (2, None)
    assert "model.onnx does not match its SHA-256" in error
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_is_not_pushed(hub, folder, capsys):
    (folder / "metrics.json").write_text("{}")
    code, _, error = run(["checkpoint", "push", "--folder", folder, "--repo", REPO], capsys)
    assert (code, hub.repos) == (2, {})
    assert "SHA-256" in error


def test_a_file_too_large_is_not_fetched(hub, folder):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    hub.claimed_sizes["model.onnx"] = 1 << 40
    with pytest.raises(InputError, match="larger than 64 MiB"):
        Checkpoint.from_pretrained(REPO)
    assert hub.downloaded == []


def test_pull_leaves_a_foreign_folder_alone(hub, folder, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    code, _, error = run(["checkpoint", "pull", "--repo", REPO, "--out", tmp_path / "mine"], capsys)
    assert code == 2
    assert "is no checkpoint folder" in error
    assert contents(tmp_path / "mine") == {"notes.txt": b"precious"}


@pytest.mark.parametrize(
    ("repo", "revision", "complaint"),
    [
        ("nobody/nothing", None, "shows no repository 'nobody/nothing'"),
        (REPO, "v9", "has no revision 'v9'"),
        ("nothing", None, "is no hub id"),
        ("../etc/passwd", None, "is no hub id"),
    ],
)
def test_a_missing_repository_or_revision_gives_one_sentence(hub, folder, tmp_path, repo, revision, complaint, capsys):
    Checkpoint.from_pretrained(folder).push_to_hub(REPO)
    arguments = ["checkpoint", "pull", "--repo", repo, "--out", tmp_path / "out"]
    code, _, error = run([*arguments, *(("--revision", revision) if revision else ())], capsys)
    assert code == 2
    assert complaint in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_repository_is_no_checkpoint(hub):
    hub.repos[REPO] = {}
    with pytest.raises(InputError, match="is no checkpoint folder"):
        Checkpoint.from_pretrained(REPO)


def test_a_hub_that_does_not_answer_gives_one_sentence(online, folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(InputError, match="does not answer"):
        Checkpoint.from_pretrained(REPO)
    with pytest.raises(InputError, match="does not answer"):
        Checkpoint.from_pretrained(folder).push_to_hub(REPO)


def test_offline_mode_gives_one_sentence(folder):
    assert huggingface_hub.is_offline_mode()
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        Checkpoint.from_pretrained("somebody/unknown")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        Checkpoint.from_pretrained(folder).push_to_hub(REPO)


def test_a_missing_folder_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    """`runs/selector` reads like user/name; where a `Path` is asked for, nothing is fetched instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="runs/selector is no checkpoint folder"):
        Checkpoint.from_pretrained(Path("runs/selector"))


def test_inspect_and_verify_say_what_a_checkpoint_is(folder, capsys):
    code, verified, _ = run(["checkpoint", "verify", "--folder", folder], capsys)
    assert (code, verified["verified"], verified["golden_vectors"]) == (0, True, 8)
    assert set(verified["sha256"]) == set(FILES) - {"config.json", "README.md"}
    code, inspected, _ = run(["checkpoint", "inspect", "--folder", folder], capsys)
    assert (code, inspected["pair"], inspected["scheme"], inspected["metrics"]) == (0, "tiny", "coupled", {"epochs": 1})
    assert inspected["provenance"] == {"made by": "a test"}


def test_verify_ends_with_2_for_a_damaged_folder(folder, capsys):
    (folder / "golden.safetensors").write_bytes(b"")
    code, document, error = run(["checkpoint", "verify", "--folder", folder], capsys)
    assert (code, document) == (2, None)
    assert "golden.safetensors does not match its SHA-256" in error
