"""Are the predicted probabilities true ones? Brier score, log loss, calibration error, reliability."""

from typing import Any

import numpy as np
from sklearn.metrics import brier_score_loss, log_loss

from ...controller.trees.tree import Array

NUM_BINS = 15


def score_probs(probs: Array, taken: Array) -> dict[str, float]:
    """Brier score, log loss in nats and expected calibration error of probabilities [n] for outcomes [n]."""
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return {
        "brier": round(float(brier_score_loss(taken, clipped, labels=[0, 1])), 5),
        "log_loss": round(float(log_loss(taken, clipped, labels=[0, 1])), 5),
        "ece": round(expected_calibration_error(clipped, taken), 5),
    }


def expected_calibration_error(probs: Array, taken: Array) -> float:
    """Mean distance of predicted and observed frequency over bins of equal counts (Naeini et al., AAAI 2015)."""
    return sum(share * abs(predicted - observed) for share, predicted, observed in reliability(probs, taken))


def reliability(probs: Array, taken: Array) -> list[tuple[float, float, float]]:
    """(share of rows, mean prediction, observed frequency) per bin of equal counts, lowest predictions first."""
    order = np.argsort(probs, kind="stable")
    bins = [part for part in np.array_split(order, NUM_BINS) if len(part)]
    return [(len(part) / len(order), float(probs[part].mean()), float(taken[part].mean())) for part in bins]


def skill_interval(
    squared_errors: Array, reference_errors: Array, groups: Array, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Brier skill over a reference with its 95 % interval, resampling whole groups (documents, so that rows of one
    text never count as independent): 1 - sum of errors / sum of reference errors, 0 where the reference makes none."""
    numbers, which = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(which, errors, len(numbers)) for errors in (squared_errors, reference_errors)])
    picks = np.random.default_rng(seed).integers(len(numbers), size=(resamples, len(numbers)))
    drawn = sums[:, picks].sum(axis=2)
    low, high = np.percentile(_skill(drawn), [2.5, 97.5])
    return float(_skill(sums.sum(axis=1))), float(low), float(high)


def _skill(sums: Array) -> Array:
    """[...] of sums [2, ...]: of the errors and of the reference's."""
    return 1 - np.divide(sums[0], sums[1], out=np.ones_like(sums[0]), where=sums[1] > 0)


def by_depth(probs: Array, taken: Array, depths: Array) -> list[dict[str, Any]]:
    """Calibration per depth, deepest last."""
    rows = []
    for depth in np.unique(depths):
        here = depths == depth
        rows.append({"depth": int(depth), "edges": int(here.sum()), **score_probs(probs[here], taken[here])})
    return rows
