"""What the learned score looks at: cheap functions of the prefix and the drafts, one row per drafted node."""

import numpy as np

from .context import StepContext
from .history import HISTORY
from .tree import Array, DraftTree

# A checkpoint names the version it was trained with; any change of names, order or meaning raises it.
FEATURE_VERSION = 2
FEATURES = (
    "log_prob",  # drafter's log-probability of the node
    "noisy_log_prob",  # the same through the law's noisy scores
    "rank",  # place among the siblings
    "entropy",  # nats, of the row that proposed the node
    "top_log_prob",  # largest log-probability of that row
    "margin",  # noisy lead over the best sibling; of the best itself, over the second
    "depth",
    "path_log_prob",  # sum of log_prob over the path above the node
    "path_noisy_log_prob",
    "temperature",
    "top_p",
    *HISTORY,
)
# Log-probabilities below this say no more than "never"; clipping keeps a stray token from dominating a feature.
LEAST_LOG_PROB = -12.0
MOST_MARGIN = 12.0


def edge_features(
    *,
    log_probs: Array,
    noisy_log_probs: Array,
    ranks: Array,
    entropies: Array,
    top_log_probs: Array,
    margins: Array,
    depths: Array,
    path_log_probs: Array,
    path_noisy_log_probs: Array,
    temperatures: Array,
    top_ps: Array,
    history: Array,
) -> Array:
    """[..., F] float32 from broadcastable columns [...] and `history` [..., H], in the order of FEATURES.

    Used to train and to serve. At the root, all columns of the drafts are 0.
    """
    columns = (
        np.maximum(log_probs, LEAST_LOG_PROB),
        np.maximum(noisy_log_probs, LEAST_LOG_PROB),
        ranks,
        entropies,
        np.maximum(top_log_probs, LEAST_LOG_PROB),
        np.clip(margins, -MOST_MARGIN, MOST_MARGIN),
        depths,
        np.maximum(path_log_probs, 4 * LEAST_LOG_PROB),
        np.maximum(path_noisy_log_probs, 4 * LEAST_LOG_PROB),
        temperatures,
        top_ps,
        *np.moveaxis(history, -1, 0),
    )
    features = np.empty((*np.broadcast_shapes(*(np.shape(column) for column in columns)), len(FEATURES)), np.float32)
    for number, column in enumerate(columns):
        features[..., number] = column
    return features


def node_features(tree: DraftTree, context: StepContext, first: int = 0) -> Array:
    """[B, N - first, F] float32 of the nodes from `first` on; rows of padding mean nothing."""
    rows = np.arange(len(tree.tokens))[:, None]
    above = np.maximum(tree.parents[:, first:], 0)
    return edge_features(
        log_probs=tree.log_probs[:, first:],
        noisy_log_probs=tree.noisy_log_probs[:, first:],
        ranks=tree.ranks[:, first:],
        entropies=tree.entropies[:, first:],
        top_log_probs=tree.top_log_probs[:, first:],
        margins=tree.margins[:, first:],
        depths=tree.depths[:, first:],
        path_log_probs=tree.path_log_probs[rows, above],
        path_noisy_log_probs=tree.path_noisy_log_probs[rows, above],
        temperatures=context.temperatures[:, None],
        top_ps=context.top_ps[:, None],
        history=context.history[:, None],
    )
