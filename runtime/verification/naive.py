"""Naive speculative sampling on the first draw of every node: one chain (arXiv:2211.17192, arXiv:2302.01318).

Accept x with min(1, p(x) / q(x)); refused, emit a token of norm((p - q)+). A node accepts with sum min(p, q).
Cost: two numbers per accepted token, one O(V) residual per step.
Soundness class: average-lossless, sequential. It uses first draws only, so all other nodes may be anything.
"""

from .rejection import acceptance, residual
from .sampled_tree import SampledTree
from .top_down import Offers, TopDown


def first_draw(tree: SampledTree, node: int) -> Offers:
    target_probs, draft_probs = tree.target_probs(node), tree.draft_probs(node)
    first = tree.draws(node)[0]
    yield first, acceptance(target_probs, draft_probs, tree.token(first))
    return residual(target_probs, draft_probs)


METHOD = TopDown(first_draw, lands=False)
