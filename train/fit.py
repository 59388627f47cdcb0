"""The `train` command: fit the accept head on traces, compare it, export it, write the checkpoint folder."""

import json
import logging
import math
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from safetensors.numpy import save as save_safetensors

from ..collect.trace import TraceFolder
from ..controller.checkpoint import Checkpoint, SelectorConfig, require_replaceable, save_checkpoint
from ..controller.console import print_json, print_table, progress
from ..controller.errors import InputError
from ..controller.features import FEATURES
from ..controller.latency import LatencyTable
from ..controller.model import SelectorModel
from ..controller.selector import TreeLimits
from .baselines import rank_tables
from .card import model_card
from .export import export_onnx, golden_vectors
from .judge import judge
from .module import SelectorModule
from .recording import Recording, read_recordings
from .rules import rule_fits
from .stream import SelectorData
from .tuning import LAWS, compare, tune

NUM_GOLDEN = 32


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
    """Share of the documents held out"""
    threads: int = 1
    """CPU threads; more only wait for each other at this size"""
    seed: int = 0
    """Seed of the weights and the order"""


def train(traces: Path, out: Path, fit: FitConfig = FitConfig(), limits: TreeLimits = TreeLimits()) -> None:
    """Learn a selector from a trace folder and write its checkpoint folder.

    Args:
        traces: Trace folder that `collect` wrote
        out: Checkpoint folder to write; an existing checkpoint is replaced whole
        fit: How the network is fitted
        limits: The largest tree the selector may draft
    """
    require_replaceable(out)
    folder = TraceFolder.open(traces)
    width = folder.header.width
    if limits.width > width:
        raise InputError(
            f"limits.width is {limits.width}, but the traces hold {width} candidates per position; "
            "collect with a larger width or lower the limit"
        )
    started = perf_counter()
    data = SelectorData(
        folder,
        max_depth=limits.max_depth,
        validation_share=fit.validation_share,
        batch_size=fit.batch_size,
        share=fit.row_share,
        seed=fit.seed,
    )
    model, epochs = _fit(data, fit, width)
    edges, _ = data.held_out
    metrics = {**judge(model, data), "epochs": epochs, "training_edges": data.num_edges}
    metrics["positions"] = data.num_positions
    graph = export_onnx(model, len(FEATURES))
    golden = golden_vectors(model, graph, edges.features[:NUM_GOLDEN])
    recordings = {law: read_recordings(folder, law) for law in LAWS}
    trained_on, held_out = _by_document(recordings, fit.validation_share)
    baselines: dict[str, Any] = {"rank_probs": rank_tables(folder), **rule_fits(trained_on, limits)}
    config = SelectorConfig(
        pair=folder.header.pair,
        law=folder.header.law,
        tokenizer_sha256=folder.header.tokenizer_sha256,
        limits=limits,
        provenance=_provenance(folder, fit),
    )
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    if any(trained_on.values()) and any(held_out.values()):
        checkpoint = Checkpoint(config, graph, weights, golden, baselines, metrics)
        table = LatencyTable.load(traces / "latency.json")
        baselines["tuned"] = tune(checkpoint, table, trained_on)
        metrics["replay"] = compare(checkpoint, table, held_out, baselines["tuned"])
        _print_replay(metrics["replay"])
    files = {
        "model.safetensors": save_safetensors(weights),
        "model.onnx": graph,
        "golden.safetensors": save_safetensors(golden),
        "baselines.json": _json(baselines),
        "metrics.json": _json(metrics),
    }
    save_checkpoint(out, config, files, model_card(config, metrics))
    rows = [{"score": name, **values} for name, values in metrics["scores"].items()]
    print_table(f"Held-out reachable edges ({len(edges.label)} of {len(set(edges.document))} documents)", rows)
    print_json({"command": "train", "out": str(out), "seconds": round(perf_counter() - started, 1), "metrics": metrics})


def _fit(data: SelectorData, config: FitConfig, width: int) -> tuple[SelectorModel, int]:
    """The model of the best validation epoch, and how many epochs ran."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(config.threads)
    lightning.seed_everything(config.seed, verbose=False)
    model = SelectorModel(len(FEATURES), width, config.hidden_size)
    edges, nodes = data.training
    model.standardise(torch.from_numpy(np.concatenate((edges.features, nodes.features))))
    # The data module counts its batches roughly; the schedule must not end before the last of them.
    num_steps = math.ceil(1.1 * data.num_batches * config.max_epochs) + 16 * config.max_epochs
    module = SelectorModule(model, config.learning_rate, num_steps)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        best = ModelCheckpoint(scratch, monitor="val_loss", save_weights_only=True)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=config.max_epochs,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[EarlyStopping("val_loss", patience=config.patience), best, EpochProgress()],
            logger=CSVLogger(scratch),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
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


def _by_document(
    recordings: Mapping[str, list[Recording]], share: float
) -> tuple[dict[str, list[Recording]], dict[str, list[Recording]]]:
    """Recordings by law: of documents the network was trained on, and of held-out ones; laws without any left out."""
    sides: tuple[dict[str, list[Recording]], dict[str, list[Recording]]] = ({}, {})
    for law, texts in recordings.items():
        for text in texts:
            sides[text.document < share * 2**32].setdefault(law, []).append(text)
    return sides


def _print_replay(rows: list[dict[str, Any]]) -> None:
    for temperature in sorted({row["temperature"] for row in rows}):
        shown = [
            {
                name: row[name]
                for name in ("policy", "law", "settings", "speed_up", "block_efficiency", "nodes_per_step")
            }
            for row in rows
            if row["temperature"] == temperature
        ]
        print_table(
            f"Replay at T = {temperature:g}: tuned policies on held-out texts, priced by the latency table", shown
        )


def _provenance(folder: TraceFolder, fit: FitConfig) -> dict[str, Any]:
    return {
        "traces": folder.header.command,
        "trace_shards": [shard["sha256"] for shard in folder.shards],
        "fit": asdict(fit),
        "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
    }


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()
