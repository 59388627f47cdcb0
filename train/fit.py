"""The `train` command: fit the accept head on traces, compare it, export it, write the checkpoint folder."""

import json
import logging
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from safetensors.numpy import save as save_safetensors

from ..collect.trace import TraceFolder
from ..controller.checkpoint import SelectorConfig, save_checkpoint
from ..controller.console import print_json, print_table, progress
from ..controller.errors import InputError
from ..controller.features import FEATURES
from ..controller.model import AcceptModel
from ..controller.selector import TreeLimits
from .baselines import coverage, rank_tables, score_models
from .card import model_card
from .data import EdgeData, Edges, Positions, reachable_edges, split_documents
from .export import export_onnx, golden_vectors
from .module import AcceptModule
from .rules import rule_fits

NUM_GOLDEN = 32


@dataclass(frozen=True)
class FitConfig:
    """How the network is fitted."""

    hidden_size: int = 32
    """Width of both hidden layers"""
    learning_rate: float = 3e-3
    """Step size of AdamW"""
    batch_size: int = 1024
    """Edges per step"""
    max_epochs: int = 30
    """Passes over the edges at most"""
    patience: int = 4
    """Epochs without a better validation loss before stopping"""
    validation_share: float = 0.2
    """Share of the documents held out"""
    seed: int = 0
    """Seed of the split, the weights and the order"""


def train(traces: Path, out: Path, fit: FitConfig = FitConfig(), limits: TreeLimits = TreeLimits()) -> None:
    """Learn a selector from a trace folder and write its checkpoint folder.

    Args:
        traces: Trace folder that `collect` wrote
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        fit: How the network is fitted
        limits: The largest tree the selector may draft
    """
    if out.exists() and not (out / "config.json").exists():
        raise InputError(f"{out} exists and is no checkpoint folder; choose a new output folder")
    folder = TraceFolder.open(traces)
    if limits.width > folder.header.width:
        raise InputError(
            f"limits.width is {limits.width}, but the traces hold {folder.header.width} candidates per position; "
            "collect with a larger width or lower the limit"
        )
    started = perf_counter()
    positions = Positions.read(folder)
    training, validation = split_documents(reachable_edges(positions, limits.max_depth), fit.validation_share, fit.seed)
    model, epochs = _fit(training, validation, fit)
    with torch.inference_mode():
        learned = model(torch.from_numpy(validation.features)).exp().numpy()
    scores = score_models(training, validation, learned)
    graph = export_onnx(model, len(FEATURES))
    golden = golden_vectors(model, graph, validation.features[:NUM_GOLDEN])
    metrics = {
        "scores": scores,
        "epochs": epochs,
        "training_edges": len(training.taken),
        "positions": len(positions.rank),
    }
    config = SelectorConfig(
        pair=folder.header.pair,
        law=folder.header.law,
        tokenizer_sha256=folder.header.tokenizer_sha256,
        limits=limits,
        coverage=coverage(positions, folder.header.width),
        provenance=_provenance(folder, fit),
    )
    files = {
        "model.safetensors": save_safetensors({name: value.numpy() for name, value in model.state_dict().items()}),
        "model.onnx": graph,
        "golden.safetensors": save_safetensors(golden),
        "baselines.json": _json(
            {"rank_probs": rank_tables(positions, folder.header.width), **rule_fits(folder, limits)}
        ),
        "metrics.json": _json(metrics),
    }
    save_checkpoint(out, config, files, model_card(config, metrics))
    rows = [{"score": name, **values} for name, values in scores.items()]
    print_table(
        f"Held-out reachable edges ({len(validation.taken)} of {len(set(validation.document))} documents)", rows
    )
    print_json({"command": "train", "out": str(out), "seconds": round(perf_counter() - started, 1), "metrics": metrics})


def _fit(training: Edges, validation: Edges, config: FitConfig) -> tuple[AcceptModel, int]:
    """The model of the best validation epoch, and how many epochs ran."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.seed_everything(config.seed, verbose=False)
    model = AcceptModel(len(FEATURES), config.hidden_size)
    model.standardise(torch.from_numpy(training.features))
    module = AcceptModule(model, config.learning_rate)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        best = ModelCheckpoint(scratch, monitor="val_loss", save_weights_only=True)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=config.max_epochs,
            callbacks=[EarlyStopping("val_loss", patience=config.patience), best, EpochProgress()],
            logger=CSVLogger(scratch),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, EdgeData(training, validation, config.batch_size))
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        module.load_state_dict(state)
    return module.model.eval(), trainer.current_epoch


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


def _provenance(folder: TraceFolder, fit: FitConfig) -> dict[str, Any]:
    return {
        "traces": folder.header.command,
        "trace_shards": [shard["sha256"] for shard in folder.shards],
        "fit": asdict(fit),
        "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
    }


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()
