"""The walk: draw the target's token at a node and follow it while it was drafted.

Soundness class: pointwise. Whatever tree was drafted, the text is the target's own, token for token, because every
token is drawn from the target's row by noise keyed to its position (target-only verification; EAGLE-2's rule is the
same distribution). Expected block efficiency of a tree is 1 + sum over nodes of the target's probability of the node's
path. On the CPU rows are visited lazily: one warp and draw per accepted depth, none for nodes off the path. A device
draws behind all nodes, which takes it no longer than one, for there every look at a token is a wait.
"""

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import WALK
from ...controller.trees.tree import Array, DraftTree
from ..sampling import TokenSampler
from .base import DraftRows, StopDistribution, Verdict
from .sampled_tree import single_tree


class WalkVerifier:
    terms = WALK

    def verify(
        self, tree: DraftTree, rows: Tensor, draft_rows: DraftRows, sampler: TokenSampler, root_positions: Array
    ) -> Verdict:
        slots = np.arange(len(tree.tokens))
        nodes = np.zeros(len(slots), dtype=np.int64)
        next_tokens = np.zeros(len(slots), dtype=np.int64)
        walking = np.ones(len(slots), dtype=bool)
        path = np.full((len(slots), int(tree.depths.max())), -1, dtype=np.int64)
        at_once = None if rows.device.type == "cpu" else sampler.draw_all(rows, root_positions, tree.depths)
        for depth in range(path.shape[1] + 1):
            if at_once is None:
                places = torch.from_numpy(slots * rows.shape[1] + nodes)
                logits = rows.flatten(0, 1).index_select(0, places)
                drawn = sampler.draw(logits, root_positions + depth + 1)
            else:
                drawn = at_once[slots, nodes]
            next_tokens = np.where(walking, drawn, next_tokens)
            if depth == path.shape[1]:
                break
            matches = (tree.parents == nodes[:, None]) & (tree.tokens == drawn[:, None]) & walking[:, None]
            walking = matches.any(axis=1)
            if not walking.any():
                break
            nodes = np.where(walking, matches.argmax(axis=1), nodes)
            path[:, depth] = np.where(walking, nodes, -1)
        return Verdict(path, next_tokens)

    def distribution(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopDistribution:
        joint = torch.zeros_like(target_rows)
        joint[0] = target_rows[0]
        single_tree(tree, target_rows, draft_rows).land(joint)
        return StopDistribution(joint)
