"""How the two models agree: what a step knows before anything is drawn, besides the target's view of its own text."""

import numpy as np

from ..trees.tree import Array

# Of the last verified position, whose rows of both models are known, and of the root, which only the drafter has read.
AGREEMENT = (
    "last_draft_entropy",  # nats
    "last_overlap",  # sum over tokens of min(target, drafter) probability
    "last_target_divergence",  # KL of the drafter's row from the target's, nats
    "last_draft_divergence",  # KL of the target's row from the drafter's, nats
    "last_target_lead",  # difference of the target's two largest probabilities
    "last_draft_lead",
    "root_draft_entropy",
    "root_draft_top",  # the drafter's largest probability
    "root_draft_lead",
)
OF_LAST = 6  # the first so many are of the last verified position
# Before the target has generated anything, no position is verified: about the values of an average position.
UNVERIFIED = np.array((2.0, 0.6, 0.5, 0.5, 0.4, 0.4), dtype=np.float32)
MOST_LOG_RATIO = 10.0  # of two probabilities in a divergence: a cut may make one of them 0


def joined(last: Array, roots: Array) -> Array:
    """[n, 9] of neighbouring positions of one text: `last` [n - 1, 6] of the positions before all but the first, and
    `roots` [n, 3]."""
    return np.concatenate((np.concatenate((UNVERIFIED[None], last)), roots), axis=1).astype(np.float32)
