"""What the shape of a sampled tree is chosen by: functions of the prefix alone, known before anything is drawn."""

import numpy as np

from ..trees.tree import Array
from .agreement import AGREEMENT
from .history import HISTORY

# A checkpoint names the version it was trained with; any change of names, order or meaning raises it.
SHAPE_FEATURE_VERSION = 1
SHAPE_FEATURES = (
    *AGREEMENT,
    # See `stack_conditions`.
    "temperature",
    "top_p",
    *HISTORY,
    "log_context",  # of the number of tokens
)


def shape_features(agreement: Array, conditions: Array, positions: Array) -> Array:
    """[n, F] float32 in the order of SHAPE_FEATURES, of the roots at `positions` [n] of their texts."""
    log_context = np.log1p(positions)[:, None]
    return np.concatenate((agreement, conditions, log_context), axis=1).astype(np.float32)
