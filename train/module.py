"""The Lightning module of the accept head: binary cross-entropy on reachable edges."""

import lightning
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..controller.model import AcceptModel


class AcceptModule(lightning.LightningModule):
    def __init__(self, model: AcceptModel, learning_rate: float):
        super().__init__()
        self.model = model
        self._learning_rate = learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.log("val_loss", self._loss(batch), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self._learning_rate)

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        features, taken = batch
        return binary_cross_entropy_with_logits(self.model.logits(features), taken)
