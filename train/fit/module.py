"""The Lightning module of the selector: both heads on one trunk."""

from typing import NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...controller.learned.torch_model import SelectorModel, among_siblings


class Batch(NamedTuple):
    edge_features: Tensor  # [e, F]
    taken: Tensor  # [e] 0 or 1
    family: Tensor  # [e] int64, numbers edges that leave one node
    node_features: Tensor  # [k, F]
    next_rank: Tensor  # [k] int64, W where the next token is no candidate


class SelectorModule(lightning.LightningModule):
    """Cross-entropy of the drafted child that the text takes, if any, plus that of the next token's rank at reachable
    nodes, in nats per node."""

    def __init__(self, model: SelectorModel, learning_rate: float, num_steps: int):
        super().__init__()
        self.model = model
        self._learning_rate, self._num_steps = learning_rate, num_steps

    def training_step(self, batch: Batch) -> Tensor:
        accept, coverage = self._losses(batch)
        self.log_dict({"train_accept_loss": accept, "train_coverage_loss": coverage}, on_step=False, on_epoch=True)
        return accept + coverage

    def validation_step(self, batch: Batch) -> None:
        accept, coverage = self._losses(batch)
        losses = {"val_loss": accept + coverage, "val_accept_loss": accept, "val_coverage_loss": coverage}
        self.log_dict(losses, batch_size=len(batch.taken))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self._learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self._learning_rate, total_steps=self._num_steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_odds, _ = self.model.logits(batch.edge_features)
        _, coverage = self.model.logits(batch.node_features)
        accept, none = among_siblings(log_odds, batch.family)
        free = 1.0 - torch.zeros_like(none).index_add(0, batch.family, batch.taken)
        total = (batch.taken * accept).sum() + (free * none).sum()
        # A batch without rows has loss 0.
        surprise = cross_entropy(coverage, batch.next_rank, reduction="sum")
        return -total / max(1, len(none)), surprise / max(1, len(coverage))
