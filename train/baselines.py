"""What the learned score is measured against: tables and calibrations fitted on the same rows."""

from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..controller.features import FEATURES
from ..controller.tree import Array
from .data import Edges, Positions

# A rank that was never taken still gets a chance: half an observation.
PRIOR_COUNT = 0.5


def rank_tables(positions: Positions, width: int) -> dict[str, dict[str, list[float]]]:
    """Share of positions at which rank w is taken, by law and temperature: the table of the best static trees."""
    tables: dict[str, dict[str, list[float]]] = {}
    for law, ranks in (("coupled", positions.rank), ("fixed", positions.fixed_rank)):
        tables[law] = {}
        for temperature in np.unique(positions.temperature):
            chosen = ranks[positions.temperature == temperature]
            counts = np.array([(chosen == rank).sum() for rank in range(width)])
            tables[law][f"{temperature:.2f}"] = ((counts + PRIOR_COUNT) / (len(chosen) + 1)).tolist()
    return tables


def coverage(positions: Positions, width: int) -> tuple[float, ...]:
    """Share of positions at which the target takes the rank-w candidate."""
    return tuple(float((positions.rank == rank).mean()) for rank in range(width))


def score_models(training: Edges, validation: Edges, learned: Array) -> dict[str, Any]:
    """Validation Brier score and log loss of the learned probabilities and of simpler models on the same rows."""
    confidence = FEATURES.index("noisy_log_prob")
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    isotonic.fit(np.exp(training.features[:, confidence]), training.taken)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    logistic.fit(training.features, training.taken)
    predictions = {
        "drafter confidence": np.exp(validation.features[:, confidence]),
        "isotonic confidence": isotonic.predict(np.exp(validation.features[:, confidence])),
        "logistic regression": logistic.predict_proba(validation.features)[:, 1],
        "learned": learned,
    }
    return {
        name: {
            "brier": round(float(brier_score_loss(validation.taken, np.clip(probs, 0, 1))), 5),
            "log_loss": round(float(log_loss(validation.taken, np.clip(probs, 1e-6, 1 - 1e-6))), 5),
        }
        for name, probs in predictions.items()
    }
