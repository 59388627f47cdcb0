"""The `train` command writes what it was asked for into the checkpoint's metrics and the page beside it."""

import json

import checkpoints
import traces
from earlier_runs import metrics, run
from treewright import cli
from treewright.controller.checkpoint import Checkpoint
from treewright.train.ablation import NOTHING, feature_groups

TITLES = ("Which features are worth their time?", "What does a stronger drafter bring?")
FIT = ["--fit.max_epochs", "1", "--fit.hidden_size", "8", "--limits.width", "3", "--limits.max_depth", "2"]


def test_an_ablation_and_earlier_runs_stand_in_the_report(tmp_path, capsys):
    folder = traces.write(tmp_path / "traces", count=3, max_tokens=12)
    earlier = run(tmp_path / "earlier", **metrics())
    arguments = ["train", "--traces", str(folder.path), "--out", str(tmp_path / "selector"), *FIT]
    assert cli.main([*arguments, "--ablation", "true", "--compare", f"[{earlier}]"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    stored = Checkpoint.from_pretrained(tmp_path / "selector").metrics
    assert stored == told["metrics"]
    assert [row["without"] for row in stored["ablation"]["fits"]] == [NOTHING, *feature_groups()]
    assert stored["ablation"]["replays"] == []  # no envelopes
    assert {row["run"] for row in told["drafters"]} == {str(earlier)}
    page = (tmp_path / "selector.logs" / "report.html").read_text()
    assert all(title in page for title in TITLES)


def test_runs_to_compare_are_looked_at_before_anything_is_fitted(tmp_path, capsys):
    folder = traces.write(tmp_path / "traces", count=3, max_tokens=12)
    older = checkpoints.write(tmp_path / "older")
    arguments = ["train", "--traces", str(folder.path), "--out", str(tmp_path / "selector"), *FIT]
    assert cli.main([*arguments, "--compare", f"[{older}]"]) == 2
    assert "cannot be compared" in capsys.readouterr().err
    assert not (tmp_path / "selector.logs").exists()
