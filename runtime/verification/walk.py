"""The walk: sample the target's token at a node and follow it while it was drafted.

Soundness class: pointwise. Whatever tree was drafted, the text is the target's own, token for token, because every
token is sampled from the target's row by noise keyed to its position (target-only verification; EAGLE-2's rule is the
same distribution). Expected block efficiency of a tree is 1 + sum over nodes of the target's probability of the node's
path. On the CPU rows are sampled lazily, one per accepted depth and none off the path. A device samples after all nodes
at once, because each transfer of a token to the host waits for the device.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import WALK
from ...controller.trees.tree import Array, DraftTree
from ..sampling import TokenSampler
from .base import DraftRows, StopDistribution, Verdict
from .sampled_tree import single_tree


def walk(tree: DraftTree, sampled: Array) -> Verdict:
    """The verdict on trees whose nodes are followed by the target's tokens `sampled` [B, N] int64."""
    slots = np.arange(len(sampled))[:, None]
    agrees = (tree.depths > 0) & (tree.tokens == sampled[slots, tree.parents])
    path, ends = np.full((len(sampled), tree.deepest), -1, dtype=np.int64), [0] * len(sampled)
    of_trees, nodes = np.nonzero(agrees)
    columns = (of_trees, nodes, tree.parents[of_trees, nodes], tree.depths[of_trees, nodes])
    for slot, node, parent, depth in zip(*(column.tolist() for column in columns), strict=True):
        if parent == ends[slot]:  # in order, so parents come first
            path[slot, depth - 1] = ends[slot] = node
    return Verdict(path, sampled[slots[:, 0], ends])


def follow(tree: DraftTree, sample: Callable[[int, Array], Array]) -> Verdict:
    """The same, depth by depth: `sample(depth, nodes)` gives the target's tokens [B] after one node per tree [B]; it is
    called once per depth, while a tree has a child with that token."""
    nodes = np.zeros(len(tree.tokens), dtype=np.int64)
    next_tokens = np.zeros(len(nodes), dtype=np.int64)
    walking = np.ones(len(nodes), dtype=bool)
    path = np.full((len(nodes), tree.deepest), -1, dtype=np.int64)
    for depth in range(path.shape[1] + 1):
        sampled = sample(depth, nodes)
        next_tokens = np.where(walking, sampled, next_tokens)
        if depth == path.shape[1]:
            break
        matches = (tree.parents == nodes[:, None]) & (tree.tokens == sampled[:, None]) & walking[:, None]
        walking = matches.any(axis=1)
        if not walking.any():
            break
        nodes = np.where(walking, matches.argmax(axis=1), nodes)
        path[:, depth] = np.where(walking, nodes, -1)
    return Verdict(path, next_tokens)


class WalkVerifier:
    terms = WALK

    def verify(
        self,
        tree: DraftTree,
        rows: Tensor,
        draft_rows: DraftRows,
        sampler: TokenSampler,
        root_positions: Array,
        *,
        surprises: bool = False,
    ) -> Verdict:
        if rows.device.type != "cpu":
            drawn = sampler.draw_all(rows, root_positions, tree.depths, surprises=surprises)
            return walk(tree, drawn.tokens)._replace(surprises=drawn.surprises)
        flat, first_rows = rows.flatten(0, 1), np.arange(len(rows)) * rows.shape[1]

        def sample(depth: int, nodes: Array) -> Array:
            logits = flat.index_select(0, torch.from_numpy(first_rows + nodes))
            return sampler.draw(logits, root_positions + depth + 1)

        return follow(tree, sample)

    def distribution(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopDistribution:
        joint = torch.zeros_like(target_rows)
        joint[0] = target_rows[0]
        single_tree(tree, target_rows, draft_rows).land(joint)
        return StopDistribution(joint)
