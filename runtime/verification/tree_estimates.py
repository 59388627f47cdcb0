"""Accepted lengths of Traversal from drafted trees and the target's rows over them, with its coins integrated out.

They are unbiased labels of the shape a tree was drawn under, and of every smaller one; what varies is only the draw of
the tree. The shape has to be settled before anything is drawn.
"""

from ...controller.trees.tree import Array
from .rejection import acceptance, weighted_residual
from .sampled_tree import SampledTree


def traversal_chances(tree: SampledTree) -> list[float]:
    """Per node a number whose sum over the nodes but the root is, in the mean over trees, the accepted length of
    Traversal (on one path: of block verification).

    The chance g(X) w(X) that the node's test is arrived at by ancestors and earlier siblings along its path, and
    succeeds at the node or below: w is the weight it is visited with, g multiplies the failures (1 - w) of the earlier
    siblings on the way. It uses nothing below the node, and under merged paths only at paths before the node's
    first. So one tree of K paths, trunk L1 and branches L2 labels every smaller one: sum over the nodes whose first
    path is among the first k, and which lie no deeper than L1 + l.
    """
    chances = [0.0] * tree.num_nodes
    chances[0] = 1.0
    _follow(tree, 0, 1.0, 1.0, chances)
    return chances


def _follow(tree: SampledTree, node: int, weight: float, arrived: float, chances: list[float]) -> None:
    """Fill in the chances below `node`, which is visited with `weight` once `arrived`."""
    draws = tree.distinct_draws(node)
    if not draws or weight == 0:
        return
    target_probs = tree.target_probs(node)
    for place, child in enumerate(draws):
        draft_probs = tree.draft_probs(node, without=draws[:place])
        child_weight = acceptance(target_probs, draft_probs, tree.token(child), weight)
        chances[child] = arrived * child_weight
        _follow(tree, child, child_weight, arrived, chances)
        arrived *= 1.0 - child_weight
        if arrived == 0:
            return  # no later sibling is ever tried
        weight, target_probs = weighted_residual(weight, target_probs, draft_probs)
        if weight == 0:
            return


def first_paths(tree: SampledTree, paths: Array) -> list[int]:
    """Per node the first of the `paths` [K, L] through it; -1 at the root and beside them."""
    first = [-1] * tree.num_nodes
    for number, path in reversed(list(enumerate(paths.tolist()))):
        for node in path:
            if node >= 0:
                first[node] = number
    return first
