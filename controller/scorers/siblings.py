"""Siblings exclude each other: the text takes one child of a node at most."""

import numpy as np

from ..trees.tree import Array, DraftTree

# Beyond these log-probabilities a sum treats the probability as 1 or 0, and its odds would not be finite.
SUREST, FAINTEST = -1e-12, -600.0


def among_siblings(log_probs: Array, tree: DraftTree) -> Array:
    """[B, N] log-probabilities of the nodes, given `log_probs` of each without its siblings.

    A child's odds against none do not depend on its siblings (a conditional logit, McFadden 1974), so a node's
    children come to less than 1.
    """
    return from_odds(odds_of(log_probs), tree).astype(log_probs.dtype)


def odds_of(log_probs: Array) -> Array:
    """[...] float64 odds p / (1 - p), all of them finite."""
    odds = np.minimum(np.maximum(log_probs, FAINTEST, dtype=np.float64), SUREST)
    return np.divide(1.0, np.expm1(np.negative(odds, out=odds), out=odds), out=odds)


def from_odds(odds: Array, tree: DraftTree) -> Array:
    """[B, N] log-probabilities of the nodes, given the odds of each against none of its family; overwrites `odds`."""
    families, sums = _family_sums(odds, tree)
    sums += 1.0
    odds /= sums[families]
    return np.log(odds, out=odds)


def at_most_one(log_probs: Array, tree: DraftTree) -> Array:
    """[B, N] `log_probs` of probabilities that know no siblings; where a node's children come to more than 1, scaled
    down to it."""
    families, sums = _family_sums(np.exp(log_probs), tree)
    return log_probs - np.log(np.maximum(sums, 1.0)).astype(log_probs.dtype)[families]


def _family_sums(values: Array, tree: DraftTree) -> tuple[Array, Array]:
    """The family [B, N] of each node and the sum [f] of the values of its drafted nodes."""
    num_trees, num_nodes = tree.parents.shape
    drafted = tree.depths > 0
    families = np.maximum(tree.parents, 0)
    if num_trees > 1:
        families += num_nodes * np.arange(num_trees)[:, None]
    weights = np.where(drafted, values, 0.0).ravel()
    return families, np.bincount(families.ravel(), weights, minlength=num_trees * num_nodes)
