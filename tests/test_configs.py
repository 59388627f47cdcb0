"""Every shipped configuration is its command's arguments."""

from pathlib import Path

import pytest
from treewright import cli
from treewright.controller.pricing.latency import LatencyTable

ROOT = Path(__file__).resolve().parent.parent / "configs"
CONFIGS = sorted(ROOT.rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_command_reads_it(path, capsys):
    assert cli.main([path.stem, "--config", str(path), "--print_config"]) == 0
    assert capsys.readouterr().out


def test_there_is_one_for_every_command_with_options():
    assert {path.stem for path in CONFIGS} == set(cli.COMMANDS) - {"engines"}


def test_an_unknown_key_is_an_error(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("out: traces\nprompts: {limits: 3}\n")
    assert cli.main(["collect", "--config", str(tmp_path / "bad.yaml")]) == 2
    assert "limits" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "latency").glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_latency_table_says_on_what_it_was_measured(path):
    table = LatencyTable.load(path)
    assert {"pair", "fingerprint", "engine", "device", "processor", "dtype"} <= table.key.keys()
    assert table.step_ms([1], table.nodes[-1], batch=1, context=1) > table.step_ms([], 0, batch=1, context=1)
