"""Every shipped configuration is its command's arguments."""

from pathlib import Path

import pytest
from treewright import cli

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_command_reads_it(path, capsys):
    assert cli.main([path.stem, "--config", str(path), "--print_config"]) == 0
    assert capsys.readouterr().out


def test_there_is_one_for_every_command():
    assert {path.stem for path in CONFIGS} == set(cli.COMMANDS)


def test_an_unknown_key_is_an_error(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("out: traces\nprompts: {limits: 3}\n")
    assert cli.main(["collect", "--config", str(tmp_path / "bad.yaml")]) == 2
    assert "limits" in capsys.readouterr().err
