"""What the learned score is computed from: cheap functions of the prefix and the drafts, one row per drafted node."""

import numpy as np

from ..context import StepContext
from ..trees.numbers import NodeNumbers
from ..trees.tree import Array, DraftTree
from .history import HISTORY

# A checkpoint names the version it was trained with; any change of names, order or meaning raises it.
FEATURE_VERSION = 6  # 5 named the columns of a tree in the singular
FEATURES = (
    # Columns of the tree by their names; at the root, all of them are 0.
    *NodeNumbers._fields,
    "ranks",  # index among the siblings; the last one is the n-grams' child
    "depths",
    # The same for all nodes of a step: see `stack_conditions`.
    "temperature",
    "top_p",
    *HISTORY,
)
RANKS = FEATURES.index("ranks")
FIRST_CONDITION = FEATURES.index("temperature")


def stack_features(numbers: Array, ranks: Array, depths: Array, conditions: Array) -> Array:
    """[..., F] float32 in the order of FEATURES, from `numbers` [..., 9] and what broadcasts to it.

    Used to train and to serve. Clipping and scaling are the network's own affair.
    """
    features = np.empty((*numbers.shape[:-1], len(FEATURES)), dtype=np.float32)
    features[..., :RANKS] = numbers
    features[..., RANKS] = ranks
    features[..., RANKS + 1] = depths
    features[..., FIRST_CONDITION:] = conditions
    return features


def node_features(tree: DraftTree, context: StepContext, first: int = 0) -> Array:
    """[B, N - first, F] float32 of the nodes from `first` on; rows of padding mean nothing."""
    return stack_features(
        tree.numbers[:, first:],
        tree.ranks[:, first:],
        tree.depths[:, first:],
        context.conditions[:, None],
    )
