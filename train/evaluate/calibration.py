"""How well predicted probabilities are calibrated: Brier score, log loss, calibration error."""

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import brier_score_loss, log_loss

from ...controller.intervals import Interval, bootstrap_interval
from ...controller.trees.tree import Array

NUM_BINS = 15


@dataclass(frozen=True)
class Scores:
    brier: float
    log_loss: float  # nats
    ece: float


@dataclass(frozen=True)
class DepthScores:
    depth: int
    edges: int
    brier: float
    log_loss: float
    ece: float


def score_probs(probs: Array, taken: Array) -> Scores:
    """Of probabilities [n] for outcomes [n]."""
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return Scores(
        brier=round(float(brier_score_loss(taken, clipped, labels=[0, 1])), 5),
        log_loss=round(float(log_loss(taken, clipped, labels=[0, 1])), 5),
        ece=round(expected_calibration_error(clipped, taken), 5),
    )


def expected_calibration_error(probs: Array, taken: Array) -> float:
    """Mean distance of predicted and observed frequency over bins of equal counts (Naeini et al., AAAI 2015)."""
    bins = [part for part in np.array_split(np.argsort(probs, kind="stable"), NUM_BINS) if len(part)]
    return float(sum(len(part) * abs(probs[part].mean() - taken[part].mean()) for part in bins) / len(probs))


def skill_interval(squared_errors: Array, reference_errors: Array, groups: Array) -> Interval:
    """Brier skill over a reference, resampling whole groups (documents, because rows of one text are dependent):
    1 - sum of errors / sum of reference errors, 0 where the reference makes none."""
    numbers, group = np.unique(groups, return_inverse=True)
    sums = [np.bincount(group, errors, len(numbers)) for errors in (squared_errors, reference_errors)]
    return bootstrap_interval(_skill, *sums)


def _skill(errors: Array, reference: Array, axis: int = -1) -> Array:
    ours, theirs = np.asarray(errors.sum(axis)), np.asarray(reference.sum(axis))
    return 1 - np.divide(ours, theirs, out=np.ones_like(ours), where=theirs > 0)


def by_depth(probs: Array, taken: Array, depths: Array) -> list[DepthScores]:
    """Deepest last."""
    edges = {int(depth): depths == depth for depth in np.unique(depths)}
    return [
        DepthScores(depth, int(here.sum()), **asdict(score_probs(probs[here], taken[here])))
        for depth, here in edges.items()
    ]
