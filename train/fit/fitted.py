"""A fitted network as a checkpoint, and the folder it is written to."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_safetensors

from ...collect.trace import TraceFolder
from ...controller.checkpoint import Checkpoint, SelectorConfig, save_checkpoint
from ...controller.learned.features import FEATURES
from ...controller.learned.torch_model import SelectorModel
from ...controller.trees.limits import TreeLimits
from ..data.split import TRAINING
from ..data.stream import SelectorData
from ..evaluate.baselines import rank_tables
from .card import model_card
from .export import export_onnx, golden_vectors
from .settings import FitConfig

NUM_GOLDEN = 32


def fitted_checkpoint(model: SelectorModel, data: SelectorData, limits: TreeLimits, epochs: int) -> Checkpoint:
    """The network as a checkpoint that nothing has judged or tuned yet."""
    header, (edges, _) = data.folder.header, data.test
    graph = export_onnx(model, len(FEATURES))
    golden = golden_vectors(model, graph, edges.features[:NUM_GOLDEN])
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    config = SelectorConfig(
        pair=header.pair,
        scheme=header.scheme,
        tokenizer_sha256=header.tokenizer_sha256,
        limits=limits,
        provenance=_provenance(data.folder, data.fit),
    )
    files = {
        "model.safetensors": save_safetensors(weights),
        "model.onnx": graph,
        "golden.safetensors": save_safetensors(golden),
    }
    baselines: dict[str, Any] = {"rank_probs": rank_tables(data.folder)}
    metrics = {
        "epochs": epochs,
        "training_edges": int(data.num_edges[TRAINING]),
        "positions": data.num_positions,
    }
    return Checkpoint(config, files, weights, golden, 0.0, baselines, metrics, card="")


def write_checkpoint(out: Path, checkpoint: Checkpoint) -> None:
    """Write the folder with what is known by now, in place of what was known before."""
    documents = {"baselines.json": checkpoint.baselines, "metrics.json": checkpoint.metrics}
    files = checkpoint.files | {name: json.dumps(document, indent=1).encode() for name, document in documents.items()}
    save_checkpoint(out, checkpoint.config, files, model_card(checkpoint.config, checkpoint.metrics))


def _provenance(folder: TraceFolder, fit: FitConfig) -> dict[str, Any]:
    return {
        "traces": folder.header.command,
        "trace_shards": [shard.sha256 for shard in folder.shards],
        "target_sha256": folder.header.target_sha256,
        "drafter_sha256": folder.header.drafter_sha256,
        "dtype": folder.header.dtype,
        "fit": asdict(fit),
        "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
    }
