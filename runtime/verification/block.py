"""Block verification of the first path (arXiv:2403.10444).

w_0 = 1, w_i = min(1, w_(i-1) p / q) of the i-th draw. From the end backwards: the last draw is tested with w_L; the
draw at depth i < L with S_i / (S_i + 1 - w_i), where S_i = sum (w_i p - q)+ over the rows at depth i. The first success
ends the verification there, with a token of norm((w_i p - q)+), of p at the end. At least as many accepted tokens as
naive verification of the same chain, and the most of any lossless verifier of one path.
Cost: two numbers per draw, then one O(V) residual per failed test.
Soundness class: average-lossless, sequential. It uses first draws only, so all other nodes may be anything.
"""

from .bottom_up import BottomUp, Tests
from .rejection import acceptance, weighted_residual
from .sampled_tree import SampledTree


def chain_tests(tree: SampledTree) -> Tests:
    chain, weights = [0], [1.0]
    while weights[-1] > 0 and (draws := tree.draws(node := chain[-1])):
        token = tree.token(draws[0])
        weights.append(acceptance(tree.target_probs(node), tree.draft_probs(node), token, weights[-1]))
        chain.append(draws[0])
    if weights[-1] > 0:
        yield chain[-1], weights[-1], tree.target_probs(chain[-1])
    for node, weight in zip(chain[-2::-1], weights[-2::-1], strict=True):
        probability, next_probs = weighted_residual(weight, tree.target_probs(node), tree.draft_probs(node))
        if probability > 0:
            yield node, probability, next_probs


METHOD = BottomUp(chain_tests)
