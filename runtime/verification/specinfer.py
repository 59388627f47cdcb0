"""Recursive rejection with replacement, in draw order (SpecInfer, arXiv:2305.09781).

p_1 = p; draw i is accepted with min(1, p_i / q), and refused leaves p_(i+1) = norm((p_i - q)+); the last one emits. A
repeated draw is tried again, with the residual of its turn. A refused token has no residual, so nothing lands on a
draw. k i.i.d. draws accept with 1 - prod_i (1 - sum min(p_i, q)).
Cost: one O(V) residual per refusal.
Soundness class: average-lossless for i.i.d. draws, sequential: how many siblings there are may depend on earlier ones.
The published rule takes the draws in random order, which gives that up.
"""

from .rejection import acceptance, residual
from .sampled_tree import SampledTree
from .top_down import Offers, TopDown


def with_replacement(tree: SampledTree, node: int) -> Offers:
    target_probs, draft_probs = tree.target_probs(node), tree.draft_probs(node)
    for child in tree.draws(node):
        yield child, acceptance(target_probs, draft_probs, tree.token(child))
        target_probs = residual(target_probs, draft_probs)
    return target_probs


METHOD = TopDown(with_replacement, lands=True)
