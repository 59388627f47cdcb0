"""Which accepted lengths the network of shapes answers with, and which of them belong to a verifier.

Verifiers of one path, naive and block, choose among the 17 chains of the menu. All others choose among all 233 trees;
on a chain, Traversal is block verification and the rest are naive verification, so they share those answers.
"""

from collections.abc import Sequence

import numpy as np

from ..trees.delayed import BRANCHED, CHAINS
from ..trees.tree import Array

LENGTHS_NAME = "accepted_lengths"  # of the graph's output
NAIVE, BLOCK, SPECTR, TRAVERSAL = "naive", "block", "spectr", "traversal"
TREE_VERIFIERS = ("naive-tree", "specinfer", SPECTR)
SHAPED_VERIFIERS = (NAIVE, BLOCK, *TREE_VERIFIERS, TRAVERSAL)


def num_answers(verifiers: Sequence[str]) -> int:
    """Of a network for `verifiers`, in the order of SHAPED_VERIFIERS, which begin with naive and block."""
    return 2 * len(CHAINS) + (len(verifiers) - 2) * len(BRANCHED)


def answers_of(verifier: str, verifiers: Sequence[str]) -> Array:
    """[17] or [233] places among the network's answers of the verifier's trees, in the order of the menu."""
    chains = np.arange(len(CHAINS)) + len(CHAINS) * (verifier in (BLOCK, TRAVERSAL))
    if verifier in (NAIVE, BLOCK):
        return chains
    first = 2 * len(CHAINS) + (verifiers.index(verifier) - 2) * len(BRANCHED)
    return np.concatenate((chains, first + np.arange(len(BRANCHED))))
