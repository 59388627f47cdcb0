"""Trains one model of the pair: the target on text, the drafter on text and on the target's distributions."""

import copy
import logging
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM

from ...controller.lightning_run import new_trainer, run
from ...controller.trees.tree import Array
from .settings import EPOCH_STEPS, PairFitConfig

log = logging.getLogger(__name__)

SOFT_SHARE = 0.8  # of the drafter's loss: the target's rows; the rest is the text itself


class LanguageModule(lightning.LightningModule):
    """Muon for the matrices of the layers (arXiv:2502.16982), AdamW for embeddings and norms."""

    def __init__(self, model: LlamaForCausalLM, tokens: Array, num_steps: int, config: PairFitConfig, teacher: Any):
        super().__init__()
        self.automatic_optimization = False  # two optimisers
        self.model = model
        self._callables = [torch.compile(each) if config.compile else each for each in (model, teacher) if each]
        self._tokens, self._num_steps, self._config = tokens, num_steps, config

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Fresh random windows every epoch; they depend on the epoch alone, so a resumed run reads the same ones."""
        config, generator = self._config, np.random.default_rng(self._config.seed + self.current_epoch)
        starts = generator.integers(len(self._tokens) - config.window, size=EPOCH_STEPS * config.batch_size)
        windows: Any = [torch.from_numpy(self._tokens[start : start + config.window + 1]) for start in starts]
        return DataLoader(windows, batch_size=config.batch_size)

    def configure_optimizers(self) -> Any:
        matrices = [weights for name, weights in self.model.named_parameters() if name.endswith("proj.weight")]
        chosen = {id(weights) for weights in matrices}
        others = [weights for weights in self.model.parameters() if id(weights) not in chosen]
        optimizers = (
            torch.optim.Muon(
                matrices, lr=self._config.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=self._config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
        )
        return list(optimizers), [torch.optim.lr_scheduler.LambdaLR(each, self._pace) for each in optimizers]

    def _pace(self, step: int) -> float:
        done = step / self._num_steps
        return min(1.0, (step + 1) / (0.02 * self._num_steps), max(0.0, (1 - done) / 0.5))

    def training_step(self, batch: Tensor) -> None:
        loss = self._loss(batch)
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizers: Any = self.optimizers()
        schedulers: Any = self.lr_schedulers()
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        self.log("loss", loss)

    def _loss(self, windows: Tensor) -> Tensor:
        inputs, labels = windows[:, :-1], windows[:, 1:].reshape(-1)
        model, *teachers = self._callables
        logits = model(input_ids=inputs, use_cache=False).logits.float().flatten(0, 1)
        hard = cross_entropy(logits, labels)
        if not teachers:
            return hard
        with torch.no_grad():
            rows = teachers[0](input_ids=inputs, use_cache=False).logits.float().flatten(0, 1).log_softmax(-1)
        soft = kl_div(logits.log_softmax(-1), rows, log_target=True, reduction="batchmean")
        return (1 - SOFT_SHARE) * hard + SOFT_SHARE * soft


class Snapshots(Callback):
    """Keeps the model as it is after some epochs."""

    def __init__(self, epochs: dict[Path, int]):
        self._epochs = epochs  # folder -> epoch, counted from 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for folder, epoch in self._epochs.items():
            if epoch == trainer.current_epoch + 1:
                save_model(cast(LanguageModule, pl_module).model, folder)


def fit_model(
    model: LlamaForCausalLM,
    tokens: Array,
    num_steps: int,
    config: PairFitConfig,
    scratch: Path,
    *,
    teacher: LlamaForCausalLM | None = None,
    snapshots: dict[Path, int] | None = None,
) -> None:
    """Train `model` in place; a killed run is resumed from its last epoch in `scratch`."""
    module = LanguageModule(model, tokens, num_steps, config, teacher)
    state = ModelCheckpoint(scratch, filename="last", enable_version_counter=False)
    trainer = new_trainer(
        accelerator="auto",
        precision="bf16-mixed",
        max_epochs=num_steps // EPOCH_STEPS,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[state, Snapshots(snapshots or {})],
        logger=CSVLogger(scratch, flush_logs_every_n_steps=EPOCH_STEPS),
        log_every_n_steps=EPOCH_STEPS // 2,
    )
    last = scratch / "last.ckpt"
    if last.exists() and not is_zipfile(last):
        log.warning("%s was cut off by an interruption; this model is trained from its beginning", last)
        last.unlink()
    run(trainer, module, ckpt_path=last if last.exists() else None, weights_only=False)
    model.eval()


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write a bfloat16 copy."""
    halved: Any = copy.deepcopy(model)
    halved.to(torch.bfloat16).save_pretrained(folder)
