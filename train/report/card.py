"""The model card that goes with a checkpoint: hub metadata, how to use it, what was measured."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from huggingface_hub import ModelCardData

from ...controller.checkpoint import SelectorConfig
from ..metrics import Metrics

METADATA = ModelCardData(
    library_name="treewright",
    license="apache-2.0",
    tags=["treewright", "speculative-decoding", "draft-tree", "onnx", "safetensors"],
)


def model_card(config: SelectorConfig, metrics: Metrics) -> str:
    """Markdown for the checkpoint folder's README."""
    sections = [
        f"---\n{METADATA.to_yaml()}\n---",
        "# treewright selector",
        f"Chooses draft trees for the pair `{config.pair}` under the **{config.scheme}** scheme. It predicts, for each "
        "drafted token,\nthe probability that the target's text takes it; the text itself never depends on it.",
        f"- Features: {', '.join(config.features)} (version {config.feature_version})\n"
        f"- Largest tree: {config.limits.max_depth} levels, {config.limits.width} children, "
        f"{config.limits.budget} nodes\n"
        f"- Trained on {metrics.training_edges} reachable edges of {metrics.positions} positions, "
        f"{metrics.epochs} epochs",
        "## How to use it",
        "```\ntreewright checkpoint pull --repo USER/NAME --out runs/selector\n"
        "treewright serve --pair.target TARGET --pair.drafter DRAFTER --speculation.selector runs/selector\n```",
        "TARGET and DRAFTER are the pair it was trained on, or another with the same tokenizer. `treewright profile` "
        "measures\nthe machine once; the selector weighs expected tokens against those times.",
    ]
    if metrics.evaluation is not None:
        rows = [{"score": name, **asdict(scores)} for name, scores in metrics.evaluation.scores.items()]
        sections += ["## Held-out documents, reachable edges", _table(rows)]
    if metrics.replay:
        sections += ["## Replay of held-out texts", _table([asdict(row) for row in metrics.replay])]
    sections.append("Made by `treewright train`; `config.json` holds the provenance and the hash of every file.")
    return "\n\n".join(sections) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
