"""A sampled trunk under an average-lossless verifier, then the walk into free side branches: the landing principle.

The trunk's verifier ends at a node X with a token y such that the text behind y is the target's own whatever was drawn.
So y may be followed into any child of X, and from there the target's own token into any child, as the walk does:
however the side branches were chosen, with knowledge of the whole trunk even. Drawn children that the trunk's verifier
refused have no residual, so y is none of them. Expected accepted length: sum over X of P(trunk ends at X) (depth(X) +
sum over side children c of p_res(c) (1 + what the walk expects below c)).
Cost: the trunk's, and one row and draw per side node passed.
Soundness class: the trunk's for its draws (`paths` says which nodes those are); side branches may use any information.
"""

from torch import Tensor

from . import block, naive, traversal
from .coins import Coins
from .sampled_tree import SampledTree
from .sampled_verifier import Method


class Landing:
    """The `trunk`'s method, then the walk."""

    def __init__(self, trunk: Method):
        self._trunk = trunk

    def distribution(self, view: SampledTree, joint: Tensor) -> None:
        self._trunk.distribution(view, joint)
        view.land(joint)

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        node, token = self._trunk.judge(view, coins)
        while token in (children := view.children(node)):
            node = children[token]
            token = coins.draw(view.target_probs(node))
        return node, token


NAIVE_TRUNK_METHOD = Landing(naive.METHOD)
BLOCK_TRUNK_METHOD = Landing(block.METHOD)
TRAVERSAL_TRUNK_METHOD = Landing(traversal.METHOD)
