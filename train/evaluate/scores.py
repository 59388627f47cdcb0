"""Scores of a trained network on the test documents: against simpler models, by depth, for each head."""

from dataclasses import dataclass

import numpy as np
import torch

from ...controller.intervals import Interval
from ...controller.learned.torch_model import SelectorModel, among_siblings
from ...controller.trees.tree import Array
from ..data.stream import SelectorData
from .baselines import baseline_probs
from .calibration import DepthScores, Scores, by_depth, expected_calibration_error, score_probs, skill_interval


@dataclass(frozen=True)
class CoverageScores:
    log_loss: float  # nats
    log_loss_of_shares: float  # of a model that predicts the constant shares of the ranks
    ece_by_rank: list[float]


@dataclass(frozen=True)
class Evaluation:
    scores: dict[str, Scores]  # by model
    by_depth: list[DepthScores]
    brier_skill_over_isotonic: Interval
    coverage: CoverageScores


def evaluate(model: SelectorModel, data: SelectorData) -> Evaluation:
    edges, nodes = data.test
    learned, coverage = test_probs(model, data)
    probs = {**baseline_probs(data.training[0], edges), "learned": learned}
    skill = skill_interval(
        (learned - edges.label) ** 2, (probs["isotonic confidence"] - edges.label) ** 2, edges.document
    )
    return Evaluation(
        scores={name: score_probs(values, edges.label) for name, values in probs.items()},
        by_depth=by_depth(learned, edges.label, edges.depth),
        brier_skill_over_isotonic=skill.rounded(4),
        coverage=coverage_scores(coverage, nodes.label),
    )


def test_probs(model: SelectorModel, data: SelectorData) -> tuple[Array, Array]:
    """[edges] of the accept head and [nodes, W] of the coverage head."""
    edges, nodes = data.test
    with torch.inference_mode():
        log_odds, _ = model.logits(torch.from_numpy(edges.features))
        accept, _ = among_siblings(log_odds, torch.from_numpy(edges.family))
        return accept.exp().numpy(), model(torch.from_numpy(nodes.features)).coverage.exp().numpy()


def coverage_scores(probs: Array, labels: Array) -> CoverageScores:
    """Of probabilities [nodes, W] for ranks [nodes], W beyond the candidates."""
    width = probs.shape[1]
    shares = np.bincount(labels, minlength=width + 1) / len(labels)
    beyond = np.maximum(1 - probs.sum(axis=1, keepdims=True), 1e-6)
    taken = np.concatenate((probs, beyond), axis=1)[np.arange(len(labels)), labels]
    return CoverageScores(
        log_loss=round(float(-np.log(np.maximum(taken, 1e-6)).mean()), 5),
        log_loss_of_shares=round(float(-np.log(np.maximum(shares[labels], 1e-6)).mean()), 5),
        ece_by_rank=[
            round(expected_calibration_error(probs[:, rank], (labels == rank).astype(float)), 5)
            for rank in range(width)
        ],
    )
