"""Fits the network of shapes with Lightning: a regression of accepted lengths, which needs no replay."""

from collections.abc import Sequence
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ...controller.errors import InputError
from ...controller.learned.shape_features import SHAPE_FEATURES
from ...controller.learned.shape_model import ShapeModel
from ...controller.lightning_run import new_trainer, run
from .settings import ShapeFitConfig
from .texts import ShapeText, answers

BEST = "shapes.ckpt"


class ShapeModule(lightning.LightningModule):
    """Mean squared error over the lengths that are known: those of a text are unbiased, however noisy."""

    def __init__(self, model: ShapeModel, learning_rate: float, num_steps: int):
        super().__init__()
        self.model = model
        self._learning_rate, self._num_steps = learning_rate, num_steps

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val_loss", self._loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self._learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self._learning_rate, total_steps=self._num_steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, batch: list[Tensor]) -> Tensor:
        features, lengths = batch
        known = lengths.isfinite()
        errors = (self.model.lengths(features) - lengths.nan_to_num(0.0)) * known
        return errors.square().sum() / known.sum().clamp_min(1)


def fit_shapes(
    training: Sequence[ShapeText],
    validation: Sequence[ShapeText],
    verifiers: Sequence[str],
    config: ShapeFitConfig,
    logs: Path,
) -> tuple[ShapeModel, int]:
    """The model of the best validation epoch, and how many epochs ran; `logs` holds its state meanwhile. InputError
    where a loss is not finite."""
    torch.set_num_threads(1)
    lightning.seed_everything(config.seed, verbose=False)
    known, held_out = (_dataset(texts, verifiers) for texts in (training, validation))
    model = ShapeModel(len(SHAPE_FEATURES), verifiers, config.hidden_size)
    model.standardise(known.tensors[0])
    batches = DataLoader(known, batch_size=min(config.batch_size, len(known)), shuffle=True, drop_last=True)
    module = ShapeModule(model, config.learning_rate, len(batches) * config.max_epochs)
    (logs / BEST).unlink(missing_ok=True)
    best = ModelCheckpoint(logs, filename=Path(BEST).stem, monitor="val_loss", enable_version_counter=False)
    stopping = EarlyStopping("val_loss", patience=config.patience)
    trainer = new_trainer(accelerator="cpu", max_epochs=config.max_epochs, callbacks=[stopping, best], logger=False)
    run(trainer, module, batches, DataLoader(held_out, batch_size=1024))
    if not (logs / BEST).exists() or not np.isfinite(float(trainer.callback_metrics["val_loss"])):
        raise InputError(
            f"the losses of the fit are not finite after {trainer.current_epoch} epochs, so there is no selector; "
            f"lower fit.learning_rate, got {config.learning_rate:g}"
        )
    module.load_state_dict(torch.load(logs / BEST, weights_only=True)["state_dict"])
    (logs / BEST).unlink()
    return module.model.eval(), trainer.current_epoch


def _dataset(texts: Sequence[ShapeText], verifiers: Sequence[str]) -> TensorDataset:
    features = np.concatenate([text.features for text in texts])
    lengths = np.concatenate([answers(text, verifiers) for text in texts])
    return TensorDataset(torch.from_numpy(features), torch.from_numpy(lengths))
