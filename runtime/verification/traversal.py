"""Traversal verification: whole paths are tested, from the leaves back to the root (arXiv:2505.12398).

`visit(X, w)` ends the verification at X or below with probability w, and the root is visited with w = 1:
  for each distinct draw x at X, in draw order: visit(x, min(1, w p(x) / q(x)));
    all of it failed: S = sum (w p - q)+, then p <- (w p - q)+ / S, w <- S / (S + 1 - w), q <- norm(q without x);
  at last X itself is tested with what is left of w, and emits from what is left of p.
On a chain it is block verification; a path appended as the last never lowers the expected accepted length. I.i.d.
draws with repeats merged are draws without replacement whose number chance alone settled, hence the same update of q.
I.i.d. paths may also be taken apart: every draw, repeats included, is visited with what its own path drew below, and q
stays as it is. A trunk then has all paths below it.
Cost: the rows of all inner nodes, O(V) per failed draw, one after another.
Soundness class: average-lossless, sequential, but only depth first in draw order, and with the updated rows. Taken
apart, only for paths that start together, since what a later path adds to could be any of a node's copies.
"""

from .bottom_up import BottomUp, Tests
from .rejection import acceptance, weighted_residual
from .sampled_tree import SampledTree


def merged_tests(tree: SampledTree) -> Tests:
    return _visit(tree, 0, 1.0, None)


def unmerged_tests(tree: SampledTree) -> Tests:
    return _visit(tree, 0, 1.0, tree.starting(0))


def _visit(tree: SampledTree, node: int, weight: float, paths: set[int] | None) -> Tests:
    """Visit a node, or the copy of it that is the end of `paths`."""
    if weight == 0:
        return
    target_probs = tree.target_probs(node)
    failed: list[int] = []
    for path, child in enumerate(tree.distinct_draws(node)) if paths is None else tree.draws_of(node, paths):
        draft_probs = tree.draft_probs(node, without=failed if paths is None else ())
        paths_below = None if paths is None else {path} | tree.starting(child)
        yield from _visit(tree, child, acceptance(target_probs, draft_probs, tree.token(child), weight), paths_below)
        weight, target_probs = weighted_residual(weight, target_probs, draft_probs)
        if weight == 0:
            return
        failed.append(child)
    yield node, weight, target_probs


METHOD = BottomUp(merged_tests)
UNMERGED_METHOD = BottomUp(unmerged_tests)
