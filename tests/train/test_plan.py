"""A plan counts what training would do, and leaves the disk as it was."""

import json
from pathlib import Path
from time import perf_counter

import plans
import pytest
import traces
from treewright import cli
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.controller.contract import FIXED
from treewright.train.data.split import SIDES, by_document, by_setting
from treewright.train.data.stream import SelectorData
from treewright.train.evaluate.ablation import feature_groups
from treewright.train.fit.settings import FitConfig
from treewright.train.replay.recording import read_recordings

FIT = ["--fit.batch_size", "64", "--fit.row_share", "1.0", "--fit.max_epochs", "5"]
LIMITS = ["--limits.max_depth", "4", "--limits.width", "3", "--limits.frontier", "4", "--limits.budget", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four texts of which three have envelopes."""
    path = tmp_path_factory.mktemp("runs") / "traces"
    folder = traces.write(path, max_tokens=12, envelopes=EnvelopeConfig(4, max_depth=2, frontier=2))
    plans.TABLE.save(path / "latency.json")
    return folder


def plan_of(folder, out, capsys, *more):
    arguments = ["train", "--plan", "true", "--traces", str(folder.path), "--out", str(out), *FIT, *LIMITS, *more]
    assert cli.main(arguments) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["plan"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_counts_the_rows_and_steps_of_training(folder, tmp_path, capsys):
    plan = plan_of(folder, tmp_path / "selector", capsys)
    data = SelectorData(folder, FitConfig(batch_size=64, row_share=1.0), max_depth=4)
    samples = {"training": data.training, "validation": data.validation, "test": data.test}
    assert {side: plan[f"{side}_edges"] for side in SIDES} == {side: len(samples[side][0].label) for side in SIDES}
    assert {side: plan[f"{side}_documents"] for side in SIDES} == {"training": 2, "validation": 1, "test": 1}
    assert plan["positions"] == data.num_positions == 48
    assert plan["texts"] == [{"domain": "toy", "temperature": 0.8, "texts": 4}]
    assert plan["steps_at_most"] == 5 * plan["batches_per_epoch"] == 5 * data.num_batches


def test_an_epoch_takes_no_longer_than_the_planning_that_timed_one(folder, tmp_path, capsys):
    """So many epochs that rounding to tenths of a second does not matter."""
    started = perf_counter()
    plan = plan_of(folder, tmp_path / "selector", capsys, "--fit.max_epochs", "100000")
    assert 0 < plan["about_fit_seconds_at_most"] < 100_000 * (perf_counter() - started)
    assert plan["steps_at_most"] == 100_000 * plan["batches_per_epoch"]


def test_it_counts_the_replays_of_tuning_and_comparing(folder, tmp_path, capsys):
    plan = plan_of(folder, tmp_path / "selector", capsys)
    data = SelectorData(folder, FitConfig(batch_size=64, row_share=1.0), max_depth=4)
    _, for_tuning, for_test = by_document(read_recordings(folder), data.split)
    wanted = []
    others = by_setting(for_test, "coupled")
    for setting, texts in by_setting(for_tuning, "coupled").items():
        grids = plans.policy_grids(plans.selector(), plans.TABLE, [setting.scheme], setting.temperature)
        settings = sum(len(grid) for grid in grids.values())
        replays = settings * len(texts) + len(grids) * len(others[setting])
        wanted.append((setting.scheme, len(grids), settings, replays))
    names = ("scheme", "families", "settings", "replays")
    assert [tuple(row[name] for name in names) for row in plan["replays"]] == wanted
    assert [scheme for scheme, *_ in wanted] == ["coupled", "fixed"]


def test_greedy_texts_are_replayed_under_the_scheme_of_the_traces(tmp_path, capsys):
    """Only there is a learned policy to tune."""
    path = tmp_path / "traces"
    folder = traces.write_enveloped(path, (0.0, 0.0, 0.0), max_tokens=8, scheme=FIXED)
    plans.TABLE.save(path / "latency.json")
    (row,) = plan_of(folder, tmp_path / "selector", capsys)["replays"]
    learned = {family for family, scheme in plans.policy_grids(plans.selector(), plans.TABLE, ["coupled"], 0.0)}
    assert (row["scheme"], row["temperature"], row["families"]) == ("fixed", 0.0, len(learned))


def test_it_writes_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = contents(folder.path)
    assert not plan_of(folder, tmp_path / "selector", capsys)["out_exists"]
    assert contents(folder.path) == before
    assert list(Path(tmp_path).iterdir()) == []


def test_an_ablation_is_one_more_fit_per_group(folder, tmp_path, capsys):
    assert plan_of(folder, tmp_path / "selector", capsys, "--ablation", "true")["fits"] == 1 + len(feature_groups())


def test_traces_without_envelopes_plan_no_replays(tmp_path, capsys):
    bare = traces.write(tmp_path / "bare", max_tokens=12)
    assert plan_of(bare, tmp_path / "selector", capsys)["replays"] == []
