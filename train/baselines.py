"""What the learned score is measured against: tables and calibrations fitted on the same rows."""

from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..controller.features import FEATURES
from ..controller.policies.c2t import c2t_features
from ..controller.policies.stop import stop_features
from ..controller.selector import TreeLimits
from ..controller.tree import Array
from .data import Edges, Positions

# A rank that was never taken still gets a chance: half an observation.
PRIOR_COUNT = 0.5
C2T_COLUMNS = ("path_noisy_log_prob", "noisy_log_prob", "entropy", "depth")


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


def c2t_fit(edges: Edges) -> dict[str, Any]:
    """C2T's classifier on reachable edges: will the text take the node, given that it came to the parent?"""
    columns = {name: edges.features[:, FEATURES.index(name)] for name in C2T_COLUMNS}
    joint = columns["path_noisy_log_prob"] + columns["noisy_log_prob"]
    return _logistic(c2t_features(joint, columns["entropy"], columns["depth"]), edges.taken)


def stop_fit(positions: Positions, limits: TreeLimits) -> dict[str, Any]:
    """The stop rule on reachable levels: does the text run through the children of a node and on through theirs?"""
    same_text = positions.text[1:] == positions.text[:-1]
    covered = (positions.rank >= 0) & (positions.rank < limits.width)
    gained = covered[:-1] & covered[1:]
    probs = np.exp(positions.noisy_log_probs[:-1, : limits.width])  # cut candidates count 0
    reach = positions.reach(limits.max_depth)[:-1]
    features, labels = [np.zeros((0, 3))], [np.zeros(0)]
    for depth in range(1, limits.max_depth):
        rows = np.nonzero(same_text & (reach >= depth - 1))[0]
        features.append(stop_features(probs[rows].max(axis=1), probs[rows].sum(axis=1), np.array(depth)))
        labels.append(gained[rows])
    return _logistic(np.concatenate(features), np.concatenate(labels))


def _logistic(features: Array, labels: Array) -> dict[str, Any]:
    """Weights and bias of the log odds; each class has half an observation at the origin, so that none is missing."""
    model = LogisticRegression(max_iter=1000)
    model.fit(
        np.concatenate((features, np.zeros((2, features.shape[1])))),
        np.concatenate((labels > 0, [False, True])),
        sample_weight=np.concatenate((np.ones(len(labels)), [PRIOR_COUNT] * 2)),
    )
    return {"weights": model.coef_[0].tolist(), "bias": float(model.intercept_[0])}
