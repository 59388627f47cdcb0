"""Which accepted lengths the network of shapes answers with, and which of them belong to a verifier.

Verifiers of one path, naive and block, choose among 17 chains, hybrid-naive among trunks with sides, all others among
all 233 delayed trees. On a chain, Traversal is block verification and the rest are naive verification, so they share
those answers.
"""

from collections.abc import Sequence

import numpy as np

from ..contract import HYBRID, IID_PATHS, Scheme
from ..trees.delayed import CHAINS
from ..trees.menu import CHAIN_MENU, DELAYED_MENU, SIDED_MENU, Menu
from ..trees.tree import Array

LENGTHS_NAME = "accepted_lengths"  # of the graph's output
NAIVE, BLOCK, HYBRID_NAIVE, SPECTR, TRAVERSAL = "naive", "block", "hybrid-naive", "spectr", "traversal"
TREE_VERIFIERS = ("naive-tree", "specinfer", SPECTR)
SHAPED_VERIFIERS = (NAIVE, BLOCK, HYBRID_NAIVE, *TREE_VERIFIERS, TRAVERSAL)


def menu_of(verifier: str) -> Menu:
    return {NAIVE: CHAIN_MENU, BLOCK: CHAIN_MENU, HYBRID_NAIVE: SIDED_MENU}.get(verifier, DELAYED_MENU)


def scheme_of(verifier: str) -> Scheme:
    """What its shapes are drawn under."""
    return HYBRID if verifier == HYBRID_NAIVE else IID_PATHS


def num_answers(verifiers: Sequence[str]) -> int:
    """Of a network for `verifiers`, in the order of SHAPED_VERIFIERS, which begin with naive and block."""
    return 2 * len(CHAINS) + sum(len(menu_of(verifier).own) for verifier in verifiers)


def answers_of(verifier: str, verifiers: Sequence[str]) -> Array:
    """[shapes] places among the network's answers of the verifier's shapes, in the order of its menu."""
    chains = np.arange(len(CHAINS)) + len(CHAINS) * (verifier in (BLOCK, TRAVERSAL))
    first = num_answers(verifiers[: verifiers.index(verifier)])
    return np.concatenate((chains, first + np.arange(len(menu_of(verifier).own))))
