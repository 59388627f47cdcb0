"""A sampled trunk under an average-lossless verifier, then the walk into free side branches: the landing principle.

The trunk's verifier ends at a node X with a token y such that the text behind y is the target's own whatever was drawn.
So y may be followed into any child of X, and from there the target's own token into any child, as the walk does:
however the side branches were chosen, with knowledge of the whole trunk even. Drawn children that the trunk's verifier
refused have no residual, so y is none of them. Expected accepted length: sum over X of P(trunk ends at X) (depth(X) +
sum over side children c of p_res(c) (1 + what the walk expects below c)).
Cost: the trunk's, and one row and draw per side node passed.
Soundness class: the trunk's for its draws (`paths` says which nodes those are); side branches may look at anything.
"""

from typing import Protocol

from torch import Tensor

from ...controller.contract import VERIFIERS, VerifierTerms
from ...controller.tree import Array, DraftTree
from ..sampling import TokenSampler
from . import block, naive, traversal
from .base import DraftRows, StopLaw, Verdict
from .coins import Coins
from .sampled_tree import SampledTree, single_tree, verify_each


class TrunkVerifier(Protocol):
    def law(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopLaw: ...

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]: ...


class HybridVerifier:
    def __init__(self, terms: VerifierTerms, trunk: TrunkVerifier):
        self.terms = terms
        self._trunk = trunk

    def verify(
        self, tree: DraftTree, rows: Tensor, draft_rows: DraftRows, sampler: TokenSampler, root_positions: Array
    ) -> Verdict:
        return verify_each(self.judge, tree, rows, draft_rows, sampler, root_positions)

    def law(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopLaw:
        joint = self._trunk.law(tree, target_rows, draft_rows).joint
        single_tree(tree, target_rows, draft_rows).land(joint)
        return StopLaw(joint)

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        """Where the verification ends, and the token emitted there."""
        node, token = self._trunk.judge(view, coins)
        while token in (children := view.children(node)):
            node = children[token]
            token = coins.draw(view.target_probs(node))
        return node, token


NAIVE_TRUNK_VERIFIER = HybridVerifier(VERIFIERS["hybrid-naive"], naive.VERIFIER)
BLOCK_TRUNK_VERIFIER = HybridVerifier(VERIFIERS["hybrid-block"], block.VERIFIER)
TRAVERSAL_TRUNK_VERIFIER = HybridVerifier(VERIFIERS["hybrid-traversal"], traversal.VERIFIER)
