"""A stopped fit resumes with an equal result, and only where all that it depends on is equal."""

import logging
import os
import re
import signal
import sys
import time
from dataclasses import fields, replace
from zipfile import ZipFile

import pytest
import traces
from treewright import cli
from treewright.controller.contract import FIXED
from treewright.train.data.stream import SelectorData
from treewright.train.fit.resume import FitFolder, differences, fit_identity
from treewright.train.fit.settings import FitConfig
from treewright.train.fit.trainer import fit_selector

FIT = FitConfig(hidden_size=4, batch_size=32, row_share=0.5, max_epochs=3)


class StoppedData(SelectorData):
    """Ctrl-C as the epoch `stop_at` begins."""

    stop_at = 2

    def train_dataloader(self):
        assert self.trainer is not None
        if self.trainer.current_epoch == self.stop_at:
            raise KeyboardInterrupt
        return super().train_dataloader()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return traces.write(tmp_path_factory.mktemp("runs") / "traces", count=3, max_tokens=12)


@pytest.fixture(scope="module")
def data(folder):
    return SelectorData(folder, FIT, max_depth=2)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Weights, epochs and losses of a fit that nothing stopped."""
    return outcome(data, tmp_path_factory.mktemp("whole"))


def outcome(data, logs):
    model, epochs = fit_selector(data, logs)
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    return weights, epochs, (logs / "metrics.csv").read_text()


def stop(folder, logs, fit=FIT):
    """A fit of which Ctrl-C left two epochs."""
    with pytest.raises(KeyboardInterrupt):
        fit_selector(StoppedData(folder, fit, max_depth=2), logs)
    assert FitFolder(logs).epochs == 2


def test_a_stopped_fit_ends_like_one_that_was_not(folder, data, whole, tmp_path, caplog):
    stop(folder, tmp_path)
    assert outcome(data, tmp_path) == whole
    assert not caplog.records


def test_a_finished_fit_is_not_run_again_until_it_is_forgotten(folder, data, whole, tmp_path):
    outcome(data, tmp_path)
    again = StoppedData(folder, FIT, max_depth=2)
    again.stop_at = 0
    assert outcome(again, tmp_path) == whole
    FitFolder(tmp_path).forget()
    with pytest.raises(KeyboardInterrupt):
        fit_selector(again, tmp_path)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    """One bit among the weights."""
    with ZipFile(file) as archive:
        weights = archive.read(next(name for name in archive.namelist() if name.endswith("data/0")))
    content = file.read_bytes()
    file.write_bytes(content.replace(weights, bytes([weights[0] ^ 1]) + weights[1:]))


@pytest.mark.parametrize(
    ("name", "spoil", "complaint"),
    [
        ("last.ckpt", cut, "last.ckpt is damaged"),
        ("best.ckpt", cut, "best.ckpt is damaged"),
        ("last.ckpt", flip, "last.ckpt is damaged"),
        ("last.ckpt", lambda file: file.write_text("no state"), "last.ckpt is damaged"),
        ("best.ckpt", lambda file: file.unlink(), "best.ckpt is missing"),
        ("fit.json", lambda file: file.write_text("{"), "fit.json is damaged"),
    ],
)
def test_a_damaged_state_is_said_once_and_the_fit_starts_anew(
    folder, data, whole, tmp_path, caplog, name, spoil, complaint
):
    stop(folder, tmp_path)
    spoil(tmp_path / name)
    assert outcome(data, tmp_path) == whole
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(f"{complaint}.*; the fit starts anew", record.getMessage())


def other(value):
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 0.5 if 0 < value < 1 else value + 1
        case str():
            return value + "x"
        case tuple() | list():
            return type(value)([*value, "more"])
        case dict():
            return value | {"more": "1"}
    raise AssertionError(value)


def test_a_fit_that_differs_in_anything_starts_anew(folder, data, tmp_path, caplog):
    identity = fit_identity(data, tmp_path)
    for name in identity.keys() - {"fit"}:
        refuse(tmp_path, identity, identity | {name: other(identity[name])}, name, caplog)


@pytest.mark.parametrize("name", [field.name for field in fields(FitConfig)])
def test_a_fit_of_other_settings_starts_anew(data, tmp_path, caplog, name):
    identity = fit_identity(data, tmp_path)
    fit = identity["fit"] | {name: other(identity["fit"][name])}
    refuse(tmp_path, identity, identity | {"fit": fit}, f"fit.{name}", caplog)


def refuse(path, identity, changed, name, caplog):
    """States of `identity` are removed where the `changed` one begins, with a warning that names the difference."""
    states = FitFolder(path)
    states.begin(identity)
    for file in (states.best, states.last):
        file.write_bytes(b"a state")
    assert states.begin(changed) is None
    assert f"but its {name} differ; the fit starts anew" in caplog.text
    assert not states.best.exists() and not states.last.exists()


def test_identities_differ_in_what_changes_data_features_or_network(folder, data, tmp_path):
    def changed(other):
        return differences(*(fit_identity(each, tmp_path) for each in (data, other)))

    assert changed(SelectorData(folder, FIT, max_depth=2)) == []
    assert changed(SelectorData(folder, FIT, max_depth=3)) == ["max_depth"]
    assert changed(SelectorData(folder, replace(FIT, seed=1), max_depth=2)) == ["fit.seed"]
    assert changed(data.without([3])) == ["held"]
    fixed = traces.write(tmp_path / "fixed", count=3, max_tokens=12, scheme=FIXED)
    assert changed(SelectorData(fixed, FIT, max_depth=2)) == ["scheme", "shards"]


def test_losses_of_an_earlier_run_are_not_in_the_file_of_the_next(data, whole, tmp_path):
    outcome(data, tmp_path)
    FitFolder(tmp_path).forget()
    assert outcome(data, tmp_path) == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_state_a_sentence_and_its_exit_code(folder, tmp_path, number, code):
    """In a process of its own, as `docker stop`, a batch system's preemption or Ctrl-C ends it."""
    options = ["--fit.max_epochs", "100000", "--fit.patience", "100000", "--fit.batch_size", "64"]
    limits = ["--limits.width", "3", "--limits.max_depth", "2"]
    arguments = ["train", "--traces", str(folder.path), "--out", str(tmp_path / "out"), *options, *limits]
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with (tmp_path / "stderr").open("w") as sys.stderr:
            os._exit(cli.main(arguments))
    states, ends = FitFolder(tmp_path / "out.logs"), time.monotonic() + 60
    while not states.last.exists() and time.monotonic() < ends:
        time.sleep(0.01)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    sentence = f"treewright train: stopped after {states.epochs} epochs; the same command goes on from there\n"
    assert states.epochs > 0
    shown = (tmp_path / "stderr").read_text()
    assert sentence in shown and "Traceback" not in shown
    assert not (tmp_path / "out").exists()
