"""What the learned score looks at: cheap functions of the prefix and the drafts, one row per drafted node."""

import numpy as np

from .context import StepContext
from .tree import Array, DraftTree

# A checkpoint names the version it was trained with; any change of names, order or meaning raises it.
FEATURE_VERSION = 1
FEATURES = (
    "log_prob",  # drafter's log-probability of the node
    "noisy_log_prob",  # the same through the law's noisy scores
    "rank",  # place among the siblings
    "entropy",  # nats, of the row that proposed the node
    "top_log_prob",  # largest log-probability of that row
    "depth",
    "path_log_prob",  # sum of log_prob over the path above the node
    "path_noisy_log_prob",
    "temperature",
    "top_p",
)
# Log-probabilities below this say no more than "never"; clipping keeps a stray token from dominating a feature.
LEAST_LOG_PROB = -12.0


def edge_features(
    *,
    log_probs: Array,
    noisy_log_probs: Array,
    ranks: Array,
    entropies: Array,
    top_log_probs: Array,
    depths: Array,
    path_log_probs: Array,
    path_noisy_log_probs: Array,
    temperatures: Array,
    top_ps: Array,
) -> Array:
    """[..., F] float32 from broadcastable columns [...], in the order of FEATURES; used to train and to serve."""
    columns = (
        np.maximum(log_probs, LEAST_LOG_PROB),
        np.maximum(noisy_log_probs, LEAST_LOG_PROB),
        ranks,
        entropies,
        np.maximum(top_log_probs, LEAST_LOG_PROB),
        depths,
        np.maximum(path_log_probs, 4 * LEAST_LOG_PROB),
        np.maximum(path_noisy_log_probs, 4 * LEAST_LOG_PROB),
        temperatures,
        top_ps,
    )
    features = np.empty((*np.broadcast_shapes(*(np.shape(column) for column in columns)), len(FEATURES)), np.float32)
    for number, column in enumerate(columns):
        features[..., number] = column
    return features


def node_features(tree: DraftTree, context: StepContext) -> Array:
    """[B, N, F] float32; rows of the root and of padding mean nothing."""
    rows = np.arange(len(tree.tokens))[:, None]
    above = np.maximum(tree.parents, 0)
    return edge_features(
        log_probs=tree.log_probs,
        noisy_log_probs=tree.noisy_log_probs,
        ranks=tree.ranks,
        entropies=tree.entropies,
        top_log_probs=tree.top_log_probs,
        depths=tree.depths,
        path_log_probs=tree.path_log_probs[rows, above],
        path_noisy_log_probs=tree.path_noisy_log_probs[rows, above],
        temperatures=context.temperatures[:, None],
        top_ps=context.top_ps[:, None],
    )
