"""The model card that goes with a checkpoint: hub metadata, how to use it, what was measured."""

from dataclasses import asdict
from typing import Any

from huggingface_hub import ModelCardData

from ...controller.checkpoint import SelectorConfig
from ..metrics import Metrics
from .rendering import render

METADATA = ModelCardData(
    library_name="treewright",
    license="apache-2.0",
    tags=["treewright", "speculative-decoding", "draft-tree", "onnx", "safetensors"],
)


def model_card(config: SelectorConfig, metrics: Metrics) -> str:
    """Markdown for the checkpoint folder's README."""
    tables: dict[str, list[dict[str, Any]]] = {}
    if metrics.evaluation is not None:
        scores = metrics.evaluation.scores.items()
        tables["Held-out documents, reachable edges"] = [{"score": name, **asdict(each)} for name, each in scores]
    if metrics.replay:
        tables["Replay of held-out texts"] = [asdict(row) for row in metrics.replay]
    return render("card.md", metadata=METADATA.to_yaml(), config=config, metrics=metrics, tables=tables)
