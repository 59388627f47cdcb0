"""How commands end: what a shell sees after Ctrl-C, SIGTERM, a closed pipe, a full disk, and in poor terminals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from treewright import cli
from treewright.controller.command_line import path_of

ROOT = Path(__file__).resolve().parent.parent
# The package of this checkout under its name, whatever is installed.
START = (
    "import importlib.util as u, sys; s = u.spec_from_file_location('treewright', {root!r} + '/__init__.py', "
    "submodule_search_locations=[{root!r}]); sys.modules['treewright'] = m = u.module_from_spec(s); "
    "s.loader.exec_module(m); from treewright.cli import main; sys.exit(main())"
)


@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_ends_a_command_quietly_with_its_code(number, code, message, tmp_path):
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(root=str(ROOT)), "check", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    writer = os.open(config, os.O_WRONLY)  # waits until the command reads it
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == code
    assert out == ""
    assert err.strip() == (f"treewright check: {message}" if message else "")


@pytest.fixture
def output(monkeypatch):
    """Replaces stdout by a file."""

    def stand_in(file):
        monkeypatch.setattr(sys, "stdout", file)
        return file

    return stand_in


def test_a_reader_that_has_gone_is_no_error_of_ours(output, capsys):
    read, write = os.pipe()
    os.close(read)
    with output(open(write, "w")):
        assert cli.main(["check"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_behind_the_output_is_a_sentence(output, capsys):
    output(open("/dev/full", "w"))  # noqa: SIM115 - its content cannot be written, at its closing neither
    assert cli.main(["check"]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_closed_output_swallows(output):
    output(None)
    assert cli.main(["check"]) == 0


def test_letters_that_a_terminal_lacks_are_escaped(output, tmp_path):
    with output(open(tmp_path / "out", "w", encoding="ascii")):
        assert cli.main(["check"]) == 0
        print("é")
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[-1] == r"\xe9"
    assert json.loads(lines[-2])["command"] == "check"


def test_a_refusal_of_the_system_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["checkpoint", "verify", "--folder", str(tmp_path / ("n" * 300))]) == 2
    assert cli.main(["train", "--traces", str(tmp_path), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_configuration_that_is_not_text_is_a_sentence(tmp_path, capsys):
    (tmp_path / "serve.yaml").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["generate", "--config", str(tmp_path / "serve.yaml")]) == 2
    assert "a file is not UTF-8 text" in capsys.readouterr().err


def test_a_path_from_a_file_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert path_of("~/traces") == Path("/somewhere/traces")
    assert path_of("a::b/c") == Path("a::b/c")
    with pytest.raises(ValueError, match="at least one character"):
        path_of("")
