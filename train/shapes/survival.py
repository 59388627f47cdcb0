"""How far a delayed tree is accepted, given the text that follows, from the small matrices of each position.

Entry (k, m) of a position's matrix is the chance that, of k paths through the token before, the verifier comes through
the text's own token, and m of them with it, over the token's own chance (see `runtime.verification.rollouts`). A tree
of K paths begins with all of them at its root. Averaged over texts of the target, the chance that it is accepted to
depth d is exact; each of one text lies in [0, 1].
"""

import numpy as np

from ...controller.trees.tree import Array


def tree_survival(matrices: Array, num_paths: int, max_depth: int) -> Array:
    """[n, max_depth]: chance that the tree of `num_paths` paths drafted before each token is accepted to depth 1, 2,
    ... given the text that follows, from `matrices` [n, K, K]; NaN where the text ends earlier. With one path, the
    chain of the same verifier."""
    length, largest, _ = matrices.shape
    survival = np.full((length, max_depth), np.nan)
    state = np.zeros((length, largest))
    state[:, num_paths - 1] = 1.0
    for depth in range(min(max_depth, length)):
        state = np.einsum("nk,nkm->nm", state[: length - depth], matrices[depth:])
        survival[: length - depth, depth] = state.sum(axis=-1)
    return survival


def naive_survival(ratios: Array, max_depth: int) -> Array:
    """[n, max_depth]: the same of a chain, from the drafter's probability of each token over the target's, `ratios`
    [n]."""
    return tree_survival(np.minimum(ratios, 1.0)[:, None, None], 1, max_depth)


def block_survival(ratios: Array, max_depth: int) -> Array:
    """[n, max_depth]: the same of a chain under block verification, min over j <= d of the product of ratios to j."""
    length = len(ratios)
    survival = np.full((length, max_depth), np.nan)
    product, least = np.ones(length), np.ones(length)
    for depth in range(min(max_depth, length)):
        product = product[: length - depth] * ratios[depth:]
        least = np.minimum(least[: length - depth], product)
        survival[: length - depth, depth] = least
    return survival


def sided_survival(ratios: Array, landing: Array, max_depth: int) -> Array:
    """[n, max_depth]: the same of a trunk whose tokens have candidates beside them, by naive verification and then the
    walk, from the chance [n] that a token which takes a refused draw's place is one of them: then it is accepted too,
    and the step ends there."""
    chains = naive_survival(ratios, max_depth)
    before = np.concatenate((np.ones((len(chains), 1)), chains[:, :-1]), axis=1)
    landed = np.full_like(chains, np.nan)
    caught = (1.0 - np.minimum(ratios, 1.0)) * landing
    for depth in range(min(max_depth, len(ratios))):
        landed[: len(ratios) - depth, depth] = caught[depth:]
    return chains + before * landed


def delayed_survival(chains: Array, trees: Array, trunk_length: int, branch_length: int) -> Array:
    """[n, L1 + L2]: the same of a trunk of `trunk_length` and then the branches of `trees`; its sum over the depths is
    the accepted length.

    `chains` and `trees` [n, ...] are of one path and of K, so that every (K, L1, L2) is read off K + 1 tables.
    """
    trunk, branches = chains[:, :trunk_length], trees[:, :branch_length]
    if trunk_length == 0:
        return branches
    behind = np.full_like(branches, np.nan)
    behind[: max(0, len(trees) - trunk_length)] = branches[trunk_length:]
    return np.concatenate((trunk, trunk[:, -1:] * behind), axis=1)
