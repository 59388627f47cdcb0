"""Fits the network with Lightning: logs beside the checkpoint, early stopping, and a killed run goes on."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from ..controller.console import progress
from ..controller.errors import InputError, first_line
from ..controller.features import FEATURES
from ..controller.model import SelectorModel
from .module import SelectorModule
from .stream import SelectorData


@dataclass(frozen=True)
class FitConfig:
    """How the network is fitted."""

    hidden_size: int = 32
    """Width of both hidden layers"""
    learning_rate: float = 5e-3
    """Largest step size of AdamW"""
    batch_size: int = 2048
    """Edges per step"""
    max_epochs: int = 16
    """Passes at most"""
    row_share: float = 0.25
    """Share of the training rows that one pass looks at, others each time"""
    patience: int = 4
    """Epochs without a better validation loss before stopping"""
    validation_share: float = 0.2
    """Share of the documents that choose the epoch and tune the policies"""
    test_share: float = 0.2
    """Share of the documents that measure the outcome"""
    tensorboard: bool = False
    """Log to TensorBoard too (the package tensorboard has to be installed)"""
    threads: int = 1
    """CPU threads; more only wait for each other at this size"""
    seed: int = 0
    """Seed of the weights and the order"""


def fit_selector(data: SelectorData, config: FitConfig, width: int, logs: Path) -> tuple[SelectorModel, int]:
    """The model of the best validation epoch, and how many epochs ran.

    `logs` keeps the losses (metrics.csv) and, while the fit runs, its last state: a killed fit of the same settings on
    the same traces goes on from its last epoch.
    """
    module = new_module(data, config, width)
    best, state, last = _checkpoints(data, config, logs)
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=config.max_epochs,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[EarlyStopping("val_loss", patience=config.patience), best, state, EpochProgress()],
            logger=_loggers(config, logs),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
        module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    for file in logs.glob("*.ckpt"):
        file.unlink()
    return module.model.eval(), trainer.current_epoch


def new_module(data: SelectorData, config: FitConfig, width: int) -> SelectorModule:
    """An untrained network that knows the features' scales, with its schedule."""
    torch.set_num_threads(config.threads)
    lightning.seed_everything(config.seed, verbose=False)
    model = SelectorModel(len(FEATURES), width, config.hidden_size)
    edges, nodes = data.training
    model.standardise(torch.from_numpy(np.concatenate((edges.features, nodes.features))), data.held)
    # The data module counts its batches roughly; the schedule must not end before the last of them.
    num_steps = math.ceil(1.1 * data.num_batches * config.max_epochs) + 16 * config.max_epochs
    return SelectorModule(model, config.learning_rate, num_steps)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning without its advice."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def _checkpoints(data: SelectorData, config: FitConfig, logs: Path) -> tuple[ModelCheckpoint, ModelCheckpoint, Path]:
    """Savers of the best and of the last epoch, and the file of the last; what another fit left is removed."""
    logs.mkdir(parents=True, exist_ok=True)
    identity = json.dumps({"fit": asdict(config), "shards": data.folder.shards, "held": data.held}, sort_keys=True)
    if not (logs / "fit.json").exists() or (logs / "fit.json").read_text() != identity:
        for file in (*logs.glob("*.ckpt"), *logs.glob("metrics*.csv")):
            file.unlink()
        (logs / "fit.json").write_text(identity)
    best = ModelCheckpoint(logs, filename="best", monitor="val_loss", enable_version_counter=False)
    state = ModelCheckpoint(logs, filename="last", enable_version_counter=False)
    return best, state, logs / "last.ckpt"


def _loggers(config: FitConfig, logs: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(logs, name="", version="")]
    if config.tensorboard:
        try:
            loggers.append(TensorBoardLogger(logs, name="", version="tensorboard"))
        except ModuleNotFoundError as error:
            raise InputError(
                f"fit.tensorboard is asked for, but {first_line(error)}; pip install tensorboard"
            ) from error
    return loggers


class EpochProgress(Callback):
    """Epochs on stderr; Lightning's own bars write to stdout, which belongs to the result."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display = progress()
        self._display.start()
        self._task = self._display.add_task("train: epochs at most", total=trainer.max_epochs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display.advance(self._task)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display.stop()
