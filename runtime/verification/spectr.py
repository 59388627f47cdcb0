"""SpecTr's k-sequential selection (arXiv:2310.15141).

With m = min(p / rho, q) and beta = sum m, each of the k draws in turn is accepted with min(1, p / (rho q)); all of
them refused, the residual is norm(p - m (1 - (1 - beta)^k) / beta). Any rho from rho* on is exact, where rho* in [1, k]
solves 1 - (1 - beta)^k = rho beta, and rho* accepts most.
Cost: O(V) per halving of the interval around rho, and one O(V) residual per refused node.
Soundness class: average-lossless for i.i.d. draws whose number k is settled before the first. Then the residual may
also land on a draw. The fixed form takes rho* of the most draws there may be, and never lands: then it is sequential,
and the number of siblings may depend on earlier ones.
"""

import numpy as np
import torch

from ...controller.trees.tree import Array
from .acceptance import expected_tries
from .rejection import acceptance, residual
from .sampled_tree import SampledTree
from .top_down import Offers, TopDown

HALVINGS = 30  # any factor from rho* on is exact
MOST_DRAWS = 4  # under one node, in the fixed form


def best_rho(tree: SampledTree, node: int) -> Offers:
    return (yield from _in_turn(tree, node, len(tree.draws(node))))


def fixed_rho(tree: SampledTree, node: int) -> Offers:
    assert len(tree.draws(node)) <= MOST_DRAWS, f"spectr-fixed takes at most {MOST_DRAWS} draws under a node"
    return (yield from _in_turn(tree, node, MOST_DRAWS))


def _in_turn(tree: SampledTree, node: int, most_draws: int) -> Offers:
    target_probs, draft_probs = tree.target_probs(node), tree.draft_probs(node)
    draws = tree.draws(node)
    rho = division_factor(target_probs.cpu().numpy(), draft_probs.cpu().numpy(), most_draws)
    for child in draws:
        yield child, acceptance(target_probs, draft_probs, tree.token(child), 1.0 / rho)
    matched = torch.minimum(target_probs / rho, draft_probs)
    return residual(target_probs, matched.mul_(expected_tries(matched.sum(), len(draws))))


def division_factor(target_probs: Array, draft_probs: Array, num_draws: int) -> float:
    """rho* of one row [V] from above, as `acceptance.spectr_rho` finds it for many: of one row, halving the interval on
    the host takes a tenth of the time."""
    low, high = 1.0, float(num_draws)
    for _ in range(HALVINGS if num_draws > 1 else 0):
        middle = (low + high) / 2
        beta = float(np.minimum(target_probs / target_probs.dtype.type(middle), draft_probs).sum())
        if expected_tries(beta, num_draws) <= middle:
            high = middle
        else:
            low = middle
    return high


METHOD = TopDown(best_rho, lands=True)
FIXED_RHO_METHOD = TopDown(fixed_rho, lands=False)
