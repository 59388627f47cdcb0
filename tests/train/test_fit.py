"""The `train` command writes what it was asked for, refuses what it cannot do, and loses no fit to what comes after."""

import json

import checkpoints
import plans
import pytest
import traces
from earlier_runs import metrics, run
from treewright import cli
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.memory import MemoryConfig
from treewright.controller.plans.setting import Setting
from treewright.train.evaluate.ablation import NOTHING, feature_groups

TITLES = ("Which features are worth their time?", "What does a stronger drafter bring?")
FIT = ["--fit.max_epochs", "1", "--fit.hidden_size", "8", "--limits.width", "3", "--limits.max_depth", "2"]


MEMORY = MemoryConfig(window=16, beta=6.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three texts without envelopes; a memory corrected the drafter's rows."""
    return traces.write(tmp_path_factory.mktemp("runs") / "traces", count=3, max_tokens=12, memory=MEMORY)


def arguments(folder, out, *more):
    return ["train", "--traces", str(folder.path), "--out", str(out), *FIT, *more]


def refused(capsys, *words):
    """The one sentence on stderr."""
    assert cli.main([*words]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_ablation_and_earlier_runs_are_in_the_report(folder, tmp_path, capsys):
    earlier, out = run(tmp_path / "earlier", **metrics()), tmp_path / "selector"
    assert cli.main(arguments(folder, out, "--ablation", "true", "--compare", f"[{earlier}]")) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    checkpoint = Checkpoint.from_pretrained(out)
    stored = checkpoint.metrics
    assert stored == summary["metrics"]
    assert [row["without"] for row in stored["ablation"]["fits"]] == [NOTHING, *feature_groups()]
    assert stored["ablation"]["replays"] == []  # no envelopes
    assert {row["run"] for row in summary["drafters"]} == {str(earlier)}
    page = (tmp_path / "selector.logs" / "report.html").read_text()
    assert all(title in page for title in TITLES)
    assert not [*(tmp_path / "selector.logs").rglob("*.ckpt")]
    assert checkpoint.config.memory == MEMORY  # what is learned from corrected drafts is used on such drafts


def test_runs_to_compare_are_checked_before_anything_is_fitted(folder, tmp_path, capsys):
    older = checkpoints.write(tmp_path / "older")
    assert "cannot be compared" in refused(capsys, *arguments(folder, tmp_path / "selector", "--compare", f"[{older}]"))
    assert not (tmp_path / "selector.logs").exists()


def test_a_fault_after_the_fit_loses_nothing(folder, tmp_path, capsys):
    """A file is in the place of the ablation's folder; without an ablation the next run takes the finished fit."""
    out, logs = tmp_path / "selector", tmp_path / "selector.logs"
    logs.mkdir()
    (logs / "ablation").write_text("in the way")
    sentence = refused(capsys, *arguments(folder, out, "--ablation", "true"))
    assert f"{logs / 'ablation'}" in sentence and "Not a directory" in sentence
    saved, fitted = Checkpoint.from_pretrained(out), (logs / "metrics.csv").stat()
    assert saved.metrics["epochs"] == 1
    assert cli.main(arguments(folder, out, "--report", "false")) == 0
    again = Checkpoint.from_pretrained(out)
    assert again.files["model.safetensors"] == saved.files["model.safetensors"]
    assert again.metrics["scores"] and (logs / "metrics.csv").stat().st_mtime_ns == fitted.st_mtime_ns


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--limits.max_depth", "0"], "limits.max_depth is at least 1, got 0"),
        (["--limits.max_depth", "65"], "limits.max_depth is between 1 and 64, got 65"),
        (["--limits.budget", "0"], "limits.budget is between 1 and 4096, got 0"),
        (["--limits.budget", "4097"], "limits.budget is between 1 and 4096, got 4097"),
        (["--limits.frontier", "257"], "limits.frontier is between 1 and 256, got 257"),
        (["--limits.width", "4"], "the traces hold 3 candidates of the drafter"),
        (["--limits.ngrams", "false"], "limits.ngrams False; set them alike"),
        (["--fit.batch_size", "0"], "fit.batch_size is at least 1, got 0"),
    ],
    ids=str,
)
def test_what_the_traces_or_a_checkpoint_cannot_hold_is_refused(folder, tmp_path, capsys, options, complaint):
    assert complaint in refused(capsys, *arguments(folder, tmp_path / "selector", *options))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (".", "add a name"),
        ("..", "add a name"),
        ("a::b", "holds '::', which Lightning reads as a chain of addresses"),
        ("a::b/selector", "holds '::', which Lightning reads as a chain of addresses"),
        ("x" * 201, "longer than 200 bytes"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_fit(
    folder, tmp_path, monkeypatch, capsys, name, complaint
):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, *arguments(folder, name))
    assert [*tmp_path.iterdir()] == []


def test_odd_letters_in_a_folders_name_do_no_harm(folder, tmp_path):
    out = tmp_path / "[x] {y} 100% ünï #1" / "10:30=c"
    assert cli.main(arguments(folder, out, "--report", "false")) == 0
    assert Checkpoint.from_pretrained(out).config.pair == "tiny"


def test_envelopes_without_prices_are_refused_before_the_fit(tmp_path, capsys):
    bare = traces.write(tmp_path / "traces", count=3, max_tokens=4, envelopes=EnvelopeConfig(3, 1, 1))
    assert "no latency table can be read" in refused(capsys, *arguments(bare, tmp_path / "selector"))
    assert not (tmp_path / "selector.logs").exists()


def test_another_machines_prices_are_replayed_by_if_given(tmp_path, capsys):
    bare = traces.write(tmp_path / "traces", count=3, max_tokens=4, envelopes=EnvelopeConfig(3, 1, 1))
    prices = tmp_path / "other.json"
    plans.TABLE.save(prices)
    more = ["--latency", str(prices), "--report", "false"]
    assert cli.main(arguments(bare, tmp_path / "selector", *more)) == 0
    assert Checkpoint.from_pretrained(tmp_path / "selector").metrics["replay"]
    nothing = traces.write(tmp_path / "bare", count=3, max_tokens=4)
    assert "holds no envelopes to replay" in refused(capsys, *arguments(nothing, tmp_path / "second", *more))


def test_a_selector_of_the_fixed_scheme_is_tuned_and_compared_at_temperature_zero(tmp_path, capsys):
    folder = traces.write_enveloped(tmp_path / "traces", (0.0,) * 3, max_tokens=5, scheme=traces.FIXED)
    plans.TABLE.save(tmp_path / "traces" / "latency.json")
    assert cli.main(arguments(folder, tmp_path / "selector", "--report", "false")) == 0
    checkpoint = Checkpoint.from_pretrained(tmp_path / "selector")
    assert checkpoint.tuned.at(Setting("fixed", 0.0), "learned")
    assert not checkpoint.tuned.at(Setting("coupled", 0.0), "chain")
    assert {row["scheme"] for row in checkpoint.metrics["replay"]} == {"fixed"}
    assert "learned" in {row["policy"] for row in checkpoint.metrics["replay"]}
