"""Fits the network with Lightning: logs beside the checkpoint, early stopping, and resuming after a kill."""

import csv
import math
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from ...controller.console import progress
from ...controller.errors import InputError, first_line
from ...controller.learned.features import FEATURES
from ...controller.learned.torch_model import SelectorModel
from ...controller.lightning_run import new_trainer, run
from ..data.stream import SelectorData
from .module import SelectorModule
from .resume import FitFolder, fit_identity


def fit_selector(data: SelectorData, logs: Path) -> tuple[SelectorModel, int]:
    """The model of the best validation epoch, and how many epochs ran.

    `logs` keeps the losses (metrics.csv) and, until `FitFolder.forget`, the fit's best and last states: a fit of the
    same settings on the same traces resumes from its last epoch, or is taken as it is if finished. InputError where a
    loss is not finite. See `run` for signals.
    """
    module, folder = new_module(data), FitFolder(logs)
    epochs = folder.begin(fit_identity(data, logs))
    if epochs is None:
        epochs = _run_fit(module, data, folder)
        folder.finish(epochs)
    module.load_state_dict(torch.load(folder.best, weights_only=True)["state_dict"])
    return module.model.eval(), epochs


def _run_fit(module: SelectorModule, data: SelectorData, folder: FitFolder) -> int:
    """Epochs in total, those of a resumed run included."""
    best = ModelCheckpoint(folder.path, filename="best", monitor="val_loss", enable_version_counter=False)
    state = ModelCheckpoint(folder.path, filename="last", enable_version_counter=False)
    stopping = EarlyStopping("val_loss", patience=data.fit.patience)
    trainer = new_trainer(
        accelerator="cpu",
        default_root_dir=folder.path,
        max_epochs=data.fit.max_epochs,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[stopping, best, state, EpochLosses(folder.path / "metrics.csv"), EpochProgress()],
        logger=_tensorboard(folder.path) if data.fit.tensorboard else False,
    )
    run(trainer, module, data, ckpt_path=folder.last if folder.last.exists() else None, weights_only=True)
    if stopping.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC:
        folder.forget()
        raise InputError(
            f"the losses of the fit are not finite after {trainer.current_epoch} epochs, so there is no selector; "
            f"lower fit.learning_rate, got {data.fit.learning_rate:g}"
        )
    return trainer.current_epoch


def new_module(data: SelectorData) -> SelectorModule:
    """An untrained network that standardises its features, with its schedule."""
    config = data.fit
    torch.set_num_threads(config.threads)
    lightning.seed_everything(config.seed, verbose=False)
    model = SelectorModel(len(FEATURES), data.folder.header.num_candidates, config.hidden_size)
    edges, nodes = data.training
    model.standardise(torch.from_numpy(np.concatenate((edges.features, nodes.features))), data.held)
    # The data module only estimates its number of batches; the schedule must not end before the last of them.
    num_steps = math.ceil(1.1 * data.num_batches * config.max_epochs) + data.num_extra_batches * config.max_epochs
    return SelectorModule(model, config.learning_rate, num_steps)


def _tensorboard(logs: Path) -> Logger:
    try:
        return TensorBoardLogger(logs, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise InputError(f"fit.tensorboard is asked for, but {first_line(error)}; pip install tensorboard") from error


class EpochLosses(Callback):
    """A file of every epoch's losses; its rows are part of the fit's state, so that a resumed fit keeps them."""

    def __init__(self, file: Path):
        self._file = file
        self._rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        losses = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self._rows.append({"epoch": trainer.current_epoch, "steps": trainer.global_step} | losses)
        with self._file.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self._rows[0]))
            writer.writeheader()
            writer.writerows(self._rows)


class EpochProgress(Callback):
    """Epochs on stderr; Lightning's own bars write to stdout, which is for results."""

    def __init__(self) -> None:
        self._display = progress()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display.start()
        self._task = self._display.add_task(
            "train: epochs at most", total=trainer.max_epochs, completed=trainer.current_epoch
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display.advance(self._task)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._display.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._display.stop()
