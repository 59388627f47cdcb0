"""Shapes of sampled trees, which use nothing that was sampled: fixed counts of draws at every depth.

A delayed tree (K, L1, L2) is a trunk of L1 tokens, then K branches of L2 tokens each (arXiv:2602.16994): where drafter
and target agree, one path is enough, and they drift apart with depth. A trunk with side branches has, beside each of
its tokens, the drafter's next best ones as free candidates: the token that replaces a refused one may land there.
"""

from dataclasses import dataclass

import numpy as np

from ..context import StepContext
from ..contract import HYBRID, Information, Scheme
from ..errors import InputError
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .base import WholeTreeStep

# What a step has random numbers for.
MAX_PATHS = 64
MAX_DEPTH = 16


@dataclass(frozen=True)
class SampledShape:
    """At the levels `widens_at` the last token of the trunk gets `width` children, at the others each path goes on;
    `paths` of the tree, where its scheme draws them, say which branch draws where."""

    limits: TreeLimits
    width: int
    widens_at: range
    information = Information.PREDICTABLE
    reads_history = False

    def begin(self, context: StepContext) -> WholeTreeStep:
        return WholeTreeStep(context, self.frontier)

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        level = int(tree.depths.max())
        ends = last_nodes(tree, level)
        if level in self.widens_at:
            ends = np.repeat(ends[:, :1], self.width, axis=1)
        # How much of a text remains was known before its tree was sampled.
        may_grow = level < np.minimum(self.limits.max_depth, context.max_depths)
        return np.where(may_grow[:, None], ends, -1)[:, : ends.shape[1] * int(may_grow.any())]


def delayed_tree(num_paths: int, trunk_length: int, branch_length: int) -> SampledShape:
    """(K, L1, L2)."""
    depth = trunk_length + branch_length
    if not 1 <= num_paths <= MAX_PATHS or min(trunk_length, branch_length) < 0 or not 1 <= depth <= MAX_DEPTH:
        raise InputError(
            f"a sampled tree has 1 to {MAX_PATHS} paths, and its trunk and branches come to 1 to {MAX_DEPTH} "
            f"tokens, got {num_paths} paths, a trunk of {trunk_length} and branches of {branch_length}"
        )
    limits = TreeLimits(depth, 1, num_paths, trunk_length + num_paths * branch_length)
    return SampledShape(limits, num_paths, range(trunk_length, trunk_length + 1))


def trunk_with_sides(length: int, num_sides: int) -> SampledShape:
    """One sampled path of `length` tokens, with `num_sides` free candidates beside each."""
    if not 1 <= length <= MAX_DEPTH or not 0 <= num_sides < MAX_PATHS:
        raise InputError(
            f"a trunk has 1 to {MAX_DEPTH} tokens and 0 to {MAX_PATHS - 1} candidates beside each, "
            f"got {length} and {num_sides}"
        )
    return SampledShape(TreeLimits(length, 1, 1 + num_sides, length * (1 + num_sides)), 1 + num_sides, range(length))


def sampled_shape(scheme: Scheme, num_paths: int, trunk_length: int, branch_length: int) -> SampledShape:
    """The shape that (K, L1, L2) means under a sampled scheme; under the hybrid one L2 is 0, and K - 1 free
    candidates are the siblings of each token of the trunk."""
    if scheme != HYBRID:
        return delayed_tree(num_paths, trunk_length, branch_length)
    if branch_length:
        raise InputError(
            f"under the hybrid scheme only the trunk is sampled, but branches of {branch_length} tokens are asked for; "
            f"use [{num_paths}, {trunk_length + branch_length}, 0]"
        )
    return trunk_with_sides(trunk_length, num_paths - 1)


def last_nodes(tree: DraftTree, level: int) -> Array:
    """[B, F]: the last node of each path, or without paths the nodes of depth `level`, -1 where a tree has fewer."""
    if level == 0:
        return np.zeros((len(tree.tokens), 1), dtype=np.int64)
    if tree.paths is not None:
        return tree.paths[:, :, -1]
    at_level = tree.depths == level
    order = np.argsort(~at_level, axis=1, kind="stable")[:, : at_level.sum(axis=1).max()]
    return np.where(np.take_along_axis(at_level, order, axis=1), order, -1)
