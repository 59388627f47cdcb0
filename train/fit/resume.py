"""The states that a fit saves while it runs, and whether the next run may resume from them."""

import json
import logging
import pickle
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from ...controller.errors import first_line
from ...controller.files import atomic_write
from ...controller.learned.features import FEATURE_VERSION, FEATURES
from ..data.rows import SHARDS_AT_ONCE
from ..data.stream import MOST_SAMPLED, SelectorData

log = logging.getLogger(__name__)


def fit_identity(data: SelectorData, logs: Path) -> dict[str, Any]:
    """All that a fit's data, features and network depend on, as JSON: only a fit with an equal identity may resume."""
    header = data.folder.header
    identity = {
        "logs": str(logs.resolve()),  # the states hold their own paths
        "fit": asdict(data.fit),
        "max_depth": data.max_depth,
        "held": data.held,
        "scheme": header.scheme,
        "num_candidates": header.num_candidates,
        "shards": [asdict(shard) for shard in data.folder.shards],
        "features": FEATURES,
        "feature_version": FEATURE_VERSION,
        "shards_at_once": SHARDS_AT_ONCE,
        "most_sampled": MOST_SAMPLED,
        "versions": {name: version(name) for name in ("treewright", "torch", "lightning")},
    }
    return json.loads(json.dumps(identity))  # with lists for tuples, as it is read back


class FitFolder:
    """The states of the best and of the last epoch with the fit's identity; its losses are in the same folder."""

    def __init__(self, path: Path):
        self.path = path.resolve()
        self.best, self.last = self.path / "best.ckpt", self.path / "last.ckpt"
        self._about = self.path / "fit.json"

    @property
    def epochs(self) -> int:
        """Finished epochs of the last state, 0 where none can be read."""
        if not self.last.exists() or _damage(self.last):
            return 0
        return int(torch.load(self.last, weights_only=True)["epoch"]) + 1

    def begin(self, identity: dict[str, Any]) -> int | None:
        """How many epochs a finished fit of this identity took; None where the fit starts or resumes.

        States of another fit and damaged ones are removed with a warning.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        about = self._read_about()
        if any(file.exists() for file in (self.best, self.last)):
            problem = self._problem(identity, about)
            if problem is None:
                return about["epochs"]
            log.warning("%s holds an earlier fit, but %s; the fit starts anew", self.path, problem)
        self.forget()
        (self.path / "metrics.csv").unlink(missing_ok=True)
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        self._write_about(identity, epochs=None)
        return None

    def finish(self, epochs: int) -> None:
        """Mark the fit as finished: the next run of the same command takes its best state."""
        self._write_about(self._read_about()["identity"], epochs=epochs)

    def forget(self) -> None:
        """Remove the states of this fit and of those in folders below."""
        for file in self.path.rglob("*.ckpt"):
            file.unlink()

    def _problem(self, identity: dict[str, Any], about: dict[str, Any]) -> str | None:
        """Why the saved states do not belong to the fit of this identity; None where they do."""
        if "identity" not in about:
            return f"{self._about.name} is damaged, missing or of an older version"
        if differing := differences(identity, about["identity"]):
            return f"its {', '.join(differing)} differ"
        return next(filter(None, map(_damage, (self.best, self.last))), None)

    def _read_about(self) -> dict[str, Any]:
        try:
            about = json.loads(self._about.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def _write_about(self, identity: dict[str, Any], epochs: int | None) -> None:
        atomic_write(self._about, json.dumps({"identity": identity, "epochs": epochs}).encode())


def differences(identity: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the fields in which two identities differ; options by their full names."""
    names = [name for name in identity if name != "fit" and identity[name] != other.get(name)]
    fit, other_fit = identity["fit"], other.get("fit", {})
    return names + [f"fit.{name}" for name in fit if fit[name] != other_fit.get(name)]


def _damage(file: Path) -> str | None:
    """Why a state cannot be used, if so. Only tensors and plain values are loaded, never code."""
    try:
        with ZipFile(file) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"{file.name} is damaged (the checksum of {broken} differs)"
        torch.load(file, weights_only=True)
    except FileNotFoundError:
        return f"{file.name} is missing"
    except (OSError, ValueError, RuntimeError, EOFError, BadZipFile, pickle.UnpicklingError) as error:
        return f"{file.name} is damaged ({first_line(error)})"
    return None


@contextmanager
def reporting_interruption(folder: FitFolder) -> Iterator[None]:
    """Where a run is interrupted, print one sentence on stderr that says from where the next run resumes."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        epochs = folder.epochs
        found = f"after {epochs} epochs; the same command goes on from there" if epochs else "before its first epoch"
        print(f"treewright train: stopped {found}", file=sys.stderr, flush=True)
        raise
