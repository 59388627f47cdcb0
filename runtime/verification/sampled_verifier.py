"""The verifier of sampled trees: one method judges a tree with coins, and gives the distribution of what it might have
said."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import VerifierTerms
from ...controller.trees.tree import Array, DraftTree
from ..sampling import TokenSampler
from .base import DraftRows, StopDistribution, Verdict
from .coins import Coins
from .sampled_tree import SampledTree, single_tree


class Method(Protocol):
    """An algorithm over one tree; both answers come from the same quantities."""

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        """Where the verification ends, and the token emitted there."""
        ...

    def distribution(self, view: SampledTree, joint: Tensor) -> None:
        """Add the probability of every such end to `joint` [N, V], which is 0 so far."""
        ...


class SampledVerifier:
    """A `Verifier` (see `base`): a batch tree by tree, each with fresh coins."""

    def __init__(self, terms: VerifierTerms, method: Method):
        self.terms = terms
        self.method = method

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
        num_trees = len(tree.tokens)
        path = np.full((num_trees, tree.deepest), -1, dtype=np.int64)
        next_tokens = np.zeros(num_trees, dtype=np.int64)
        for slot in range(num_trees):

            def target_probs(node: int, slot: int = slot) -> Tensor:
                return sampler.probs(rows[slot, node], slot)

            view = SampledTree(tree, slot, target_probs, draft_rows[slot])
            coins = Coins(sampler.step_noise(slot, int(root_positions[slot])))
            last, next_tokens[slot] = self.method.judge(view, coins)
            accepted = view.path(last)
            path[slot, : len(accepted)] = accepted
        return Verdict(path, next_tokens)

    def distribution(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopDistribution:
        joint = torch.zeros_like(target_rows)
        self.method.distribution(single_tree(tree, target_rows, draft_rows), joint)
        return StopDistribution(joint)
