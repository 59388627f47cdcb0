"""Predicted against observed frequencies of both heads, on held-out reachable rows."""

from typing import Any

import numpy as np

from ...controller.learned.torch_model import SelectorModel
from ...controller.trees.tree import Array
from ..data.stream import SelectorData
from ..evaluate.calibration import expected_calibration_error, reliability
from ..evaluate.scores import test_probs


def reliability_curves(model: SelectorModel, data: SelectorData) -> dict[str, list[dict[str, Any]]]:
    """Of the accept head one curve per depth, of the coverage head one per rank: rows of (mean prediction, observed
    frequency), in bins of equal counts."""
    edges, nodes = data.test
    accept, coverage = test_probs(model, data)
    depths = np.unique(edges.depth).tolist()
    return {
        "accept": [
            _curve(f"depth {depth}", accept[edges.depth == depth], edges.label[edges.depth == depth])
            for depth in depths
        ],
        "coverage": [
            _curve(f"rank {rank + 1}", coverage[:, rank], (nodes.label == rank).astype(float))
            for rank in range(coverage.shape[1])
        ],
    }


def _curve(name: str, probs: Array, taken: Array) -> dict[str, Any]:
    return {
        "name": name,
        "rows": len(probs),
        "mean_predicted": float(probs.mean()),
        "observed": float(taken.mean()),
        "ece": expected_calibration_error(probs, taken),
        "points": [[predicted, observed] for _, predicted, observed in reliability(probs, taken)],
    }
