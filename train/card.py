"""The model card that goes with a checkpoint."""

from typing import Any

from ..controller.checkpoint import SelectorConfig


def model_card(config: SelectorConfig, metrics: dict[str, Any]) -> str:
    """Markdown for the checkpoint folder's README."""
    rows = "\n".join(
        f"| {name} | {values['brier']} | {values['log_loss']} |" for name, values in metrics["scores"].items()
    )
    return f"""# treewright selector

Chooses draft trees for the pair `{config.pair}` under the **{config.law}** law. It predicts, for each drafted token,
the probability that the target's text takes it; the text itself never depends on it.

- Features: {", ".join(config.features)} (version {config.feature_version})
- Largest tree: {config.limits.max_depth} levels, {config.limits.width} children, {config.limits.budget} nodes
- Trained on {metrics["training_edges"]} reachable edges of {metrics["positions"]} positions, {metrics["epochs"]} epochs

Held-out documents, reachable edges:

| score | Brier | log loss |
|---|---|---|
{rows}

Made by `treewright train`; `config.json` holds the provenance and the hash of every file.
"""
