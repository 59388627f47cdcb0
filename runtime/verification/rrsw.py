"""Recursive rejection without replacement (RSD, arXiv:2402.14160; Sequoia, arXiv:2402.12374).

Distinct draws in draw order; draw i is accepted with min(1, p_i / q_i), and refused leaves p_(i+1) = norm((p_i - q_i)+)
and q_(i+1) = norm(q_i without the token). I.i.d. draws with repeats left out are draws without replacement whose number
was settled by chance alone, so merged paths are verified the same way.
Cost: two O(V) rows per refusal.
Soundness class: average-lossless, sequential. Sorted or hand-picked siblings are not draws.
"""

from .rejection import acceptance, residual
from .sampled_tree import SampledTree
from .top_down import Offers, TopDown


def without_replacement(tree: SampledTree, node: int) -> Offers:
    target_probs = tree.target_probs(node)
    children = tree.distinct_draws(node)
    for place, child in enumerate(children):
        draft_probs = tree.draft_probs(node, without=children[:place])
        yield child, acceptance(target_probs, draft_probs, tree.token(child))
        target_probs = residual(target_probs, draft_probs)
    return target_probs


METHOD = TopDown(without_replacement, lands=True)
