"""Block efficiency from drafted trees and the target's rows over them, with the verifier's coins integrated out.

Each is an unbiased label of the shape the tree was drawn under; what varies is only the draw of the tree. All need
shapes that were settled before anything was drawn.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...controller.trees.tree import Array
from .base import StopDistribution
from .rejection import acceptance, weighted_residual
from .sampled_tree import SampledTree

# (target_probs [V], draft_probs [V], num_draws) -> expected acceptance of the node
NodeAcceptance = Callable[[Tensor, Tensor, int], Tensor]


def drafted_efficiency(distribution: StopDistribution, depths: Array) -> float:
    """1 + sum of stop * depth of one tree, `depths` [N]: what its verification commits in expectation."""
    return 1.0 + float((distribution.stop * torch.from_numpy(depths).to(distribution.stop)).sum())


def integrated_efficiency(tree: SampledTree, distribution: StopDistribution, acceptance: NodeAcceptance) -> float:
    """The same for a top-down verifier of i.i.d. draws, with the draws of the last level integrated out as well.

    1 + sum over inner nodes of P(reached, given the tree) times the node's expected `acceptance`. The children of the
    deepest inner nodes count by their expectation alone: the least variance of these, and no need for their rows.
    """
    reach = distribution.stop.tolist()
    for node in range(tree.num_nodes - 1, 0, -1):  # a walk that stops below a node went through it
        reach[tree.parent(node)] += reach[node]
    inner = [node for node in range(tree.num_nodes) if tree.draws(node)]
    rows = ((tree.target_probs(node), tree.draft_probs(node), len(tree.draws(node))) for node in inner)
    return 1.0 + sum(reach[node] * float(acceptance(*row)) for node, row in zip(inner, rows, strict=True))


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
