"""Judges a trained network on the test documents: against simpler models, depth by depth, head by head."""

from typing import Any

import numpy as np
import torch

from ...controller.learned.torch_model import SelectorModel, among_siblings
from ...controller.trees.tree import Array
from ..data.stream import SelectorData
from .baselines import baseline_probs
from .calibration import by_depth, expected_calibration_error, score_probs, skill_interval


def judge(model: SelectorModel, data: SelectorData) -> dict[str, Any]:
    """The metrics of a checkpoint, less what replay says."""
    edges, nodes = data.test
    learned, coverage = test_probs(model, data)
    probs = {**baseline_probs(data.training[0], edges), "learned": learned}
    skill = skill_interval(
        (learned - edges.label) ** 2, (probs["isotonic confidence"] - edges.label) ** 2, edges.document
    )
    return {
        "scores": {name: score_probs(values, edges.label) for name, values in probs.items()},
        "by_depth": by_depth(learned, edges.label, edges.depth),
        "brier_skill_over_isotonic": [round(value, 4) for value in skill],
        "coverage": coverage_scores(coverage, nodes.label),
    }


def test_probs(model: SelectorModel, data: SelectorData) -> tuple[Array, Array]:
    """[edges] of the accept head and [nodes, W] of the coverage head."""
    edges, nodes = data.test
    with torch.inference_mode():
        log_odds, _ = model.logits(torch.from_numpy(edges.features))
        accept, _ = among_siblings(log_odds, torch.from_numpy(edges.family))
        return accept.exp().numpy(), model(torch.from_numpy(nodes.features)).coverage.exp().numpy()


def coverage_scores(probs: Array, labels: Array) -> dict[str, Any]:
    """Log loss in nats of the coverage head beside that of the constant shares, and each rank's calibration error."""
    width = probs.shape[1]
    shares = np.bincount(labels, minlength=width + 1) / len(labels)
    beyond = np.maximum(1 - probs.sum(axis=1, keepdims=True), 1e-6)
    taken = np.concatenate((probs, beyond), axis=1)[np.arange(len(labels)), labels]
    return {
        "log_loss": round(float(-np.log(np.maximum(taken, 1e-6)).mean()), 5),
        "log_loss_of_shares": round(float(-np.log(np.maximum(shares[labels], 1e-6)).mean()), 5),
        "ece_by_rank": [
            round(expected_calibration_error(probs[:, rank], (labels == rank).astype(float)), 5)
            for rank in range(width)
        ],
    }
