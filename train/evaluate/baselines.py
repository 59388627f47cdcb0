"""What the learned score is compared with: tables and classifiers fitted on the same rows."""

from collections import defaultdict

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ...collect.trace import TraceFolder
from ...controller.contract import RANKED_SCHEMES
from ...controller.learned.features import FEATURES
from ...controller.plans.setting import Setting
from ...controller.trees.tree import Array
from ..data.positions import COLUMNS, Positions
from ..data.rows import Rows

# Half an observation, so that a rank that was never taken has a probability above 0 (Jeffreys' prior).
PRIOR_COUNT = 0.5
FITTED = ("isotonic confidence", "logistic regression", "gradient boosting")


def rank_tables(folder: TraceFolder) -> dict[str, dict[float, list[float]]]:
    """Share of positions at which rank w is taken, by scheme and temperature: the table of the best static trees."""
    width = folder.header.num_candidates
    counts: dict[Setting, Array] = defaultdict(lambda: np.zeros(width + 1))
    for number in range(len(folder.shards)):
        positions = Positions.from_table(folder.shard("positions", number, COLUMNS), folder.header)
        made = np.isfinite(positions.noisy_log_probs[:, :, 0])
        for scheme, ranks in positions.ranks.items():
            for temperature in np.unique(positions.temperature):
                here = positions.temperature == temperature
                chosen = ranks[here][made[here]]
                counts[Setting(scheme, temperature)] += np.bincount(
                    np.where(chosen < 0, width, chosen), minlength=width + 1
                )
    tables: dict[str, dict[float, list[float]]] = {scheme: {} for scheme in RANKED_SCHEMES}
    for setting, taken in counts.items():
        tables[setting.scheme][setting.temperature] = ((taken[:width] + PRIOR_COUNT) / (taken.sum() + 1)).tolist()
    return tables


def baseline_probs(training: Rows, validation: Rows) -> dict[str, Array]:
    """Simpler models' predictions for the validation edges; fitted on a single outcome, they are certain of it."""
    confidence = FEATURES.index("noisy_log_probs")
    raw, raw_validation = np.exp(training.features[:, confidence]), np.exp(validation.features[:, confidence])
    if len(np.unique(training.label)) == 1:
        certain = np.full(len(raw_validation), float(training.label[0]))
        return {"drafter confidence": raw_validation, **dict.fromkeys(FITTED, certain)}
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, training.label)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    boosting = HistGradientBoostingClassifier(max_iter=100, min_samples_leaf=100, random_state=0)
    fitted = (
        isotonic.predict(raw_validation),
        logistic.fit(training.features, training.label).predict_proba(validation.features)[:, 1],
        boosting.fit(training.features, training.label).predict_proba(validation.features)[:, 1],
    )
    return {"drafter confidence": raw_validation, **dict(zip(FITTED, fitted, strict=True))}
