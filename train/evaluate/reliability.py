"""Predicted against observed frequencies of both heads, on held-out reachable rows."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve

from ...controller.learned.torch_model import SelectorModel
from ...controller.trees.tree import Array
from ..data.stream import SelectorData
from .calibration import NUM_BINS, expected_calibration_error
from .scores import test_probs


@dataclass(frozen=True)
class Curve:
    name: str
    rows: int
    mean_predicted: float
    observed: float
    ece: float
    points: list[tuple[float, float]]  # mean prediction and observed frequency of each quantile bin

    @classmethod
    def of(cls, name: str, probs: Array, taken: Array) -> "Curve":
        observed, predicted = calibration_curve(taken, np.minimum(probs, 1.0), n_bins=NUM_BINS, strategy="quantile")
        ece = expected_calibration_error(probs, taken)
        points = list(zip(predicted.tolist(), observed.tolist(), strict=True))
        return cls(name, len(probs), float(probs.mean()), float(taken.mean()), ece, points)


class Curves(NamedTuple):
    accept: list[Curve]  # one per depth
    coverage: list[Curve]  # one per rank


def reliability_curves(model: SelectorModel, data: SelectorData) -> Curves:
    edges, nodes = data.test
    accept, coverage = test_probs(model, data)
    by_depth = ((depth, edges.depth == depth) for depth in np.unique(edges.depth).tolist())
    return Curves(
        [Curve.of(f"depth {depth}", accept[here], edges.label[here]) for depth, here in by_depth],
        [
            Curve.of(f"rank {rank + 1}", coverage[:, rank], (nodes.label == rank).astype(float))
            for rank in range(coverage.shape[1])
        ],
    )
