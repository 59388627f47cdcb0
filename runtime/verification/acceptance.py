"""Closed forms of one node: the chance that the emitted token is among the children drawn, exact and without coins.

All are functions of the target's row, the drafter's row and the number of i.i.d. draws, vectorised over rows; they
label what a tree shape would bring before anything is drafted. Papers: naive arXiv:2211.17192, SpecInfer
arXiv:2305.09781, SpecTr arXiv:2310.15141, greedy-plus-one arXiv:2502.18779; the walk draws from the target and looks
whether the token was drafted. At one draw all but the walk are naive; from more on, ceiling >= SpecTr >= SpecInfer >=
naive tree >= walk, row by row.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

# What halving the interval of SpecTr's division factor so often leaves of it is below the rounding of float64.
NUM_BISECTIONS = 60

Chance = TypeVar("Chance", float, Tensor)
# (target_probs [..., V], draft_probs [..., V], num_draws) -> [...]
Acceptance = Callable[[Tensor, Tensor, int], Tensor]


def walk_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """Sum of p (1 - (1 - q)^k)."""
    return (target_probs * (1.0 - (1.0 - draft_probs) ** num_draws)).sum(-1)


def naive_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """Sum of min(p, q): only the first draw is used."""
    return torch.minimum(target_probs, draft_probs).sum(-1)


def naive_tree_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """Naive on the first draw; the token drawn after a refusal may land on another."""
    landing = (target_probs - draft_probs).clamp_min(0.0) * (1.0 - (1.0 - draft_probs) ** (num_draws - 1))
    return torch.minimum(target_probs, draft_probs).sum(-1) + landing.sum(-1)


def specinfer_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """1 - product of (1 - beta_i), beta_i = sum of min(p_i, q), p_{i+1} the residual of p_i. O(kV)."""
    refused = torch.ones_like(target_probs[..., 0])
    for _ in range(num_draws):
        excess = (target_probs - draft_probs).clamp_min(0.0)
        refused = refused * excess.sum(-1)  # equals 1 - beta_i
        target_probs = normalised(excess)
    return 1.0 - refused


def spectr_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """Each draw is accepted with min(1, p / (rho q)); what is drawn after k refusals may land on a refused token."""
    shares = spectr_shares(target_probs, draft_probs, num_draws)
    beta = shares.sum(-1)
    accepted = beta * expected_tries(beta, num_draws)
    refused_probs = normalised(draft_probs - shares)  # of a draw that was refused
    landing = spectr_residual(target_probs, shares, num_draws) * (1.0 - (1.0 - refused_probs) ** num_draws)
    return torch.where(beta < 1.0, accepted + (1.0 - accepted) * landing.sum(-1), accepted)


def greedy_plus_one_acceptance(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """Of the drafter's k - 1 best tokens and one draw among the rest: p of the best, plus sum of min(p, q') over the
    rest. No verifier of such a list does better."""
    rest = ~best_tokens(draft_probs, num_draws - 1)
    drawn = torch.minimum(target_probs, normalised(draft_probs * rest))
    return (target_probs * ~rest).sum(-1) + (drawn * rest).sum(-1)


def acceptance_ceiling(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """What no verifier of k i.i.d. draws exceeds: 1 - max over token sets A of (q(A)^k - p(A)) (optimal transport).

    The best A holds the tokens of the lowest p / q, so prefix sums in that order find it. O(V log V).
    """
    order = torch.where(draft_probs > 0, target_probs / draft_probs, torch.inf).argsort(dim=-1)
    draft_sums, target_sums = (probs.gather(-1, order).cumsum(-1) for probs in (draft_probs, target_probs))
    return 1.0 - (draft_sums**num_draws - target_sums).amax(-1).clamp_min(0.0)


ACCEPTANCES: dict[str, Acceptance] = {
    "walk": walk_acceptance,
    "naive": naive_acceptance,
    "naive-tree": naive_tree_acceptance,
    "specinfer": specinfer_acceptance,
    "spectr": spectr_acceptance,
    "greedy-plus-one": greedy_plus_one_acceptance,
}


def spectr_shares(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """[..., V]: min(p / rho, q) at the best division factor rho."""
    return torch.minimum(target_probs / spectr_rho(target_probs, draft_probs, num_draws), draft_probs)


def spectr_rho(target_probs: Tensor, draft_probs: Tensor, num_draws: int) -> Tensor:
    """[..., 1] the division factor in [1, k] with 1 - (1 - beta)^k = rho beta, where beta = sum of min(p / rho, q):
    the factor is the mean number of draws that are tried.

    It is approached from above, where the residual of every token stays at least 0.
    """
    low = torch.ones_like(target_probs[..., :1])
    high = torch.full_like(low, num_draws)
    for _ in range(NUM_BISECTIONS if num_draws > 1 else 0):
        middle = (low + high) / 2
        beta = torch.minimum(target_probs / middle, draft_probs).sum(-1, keepdim=True)
        is_enough = expected_tries(beta, num_draws) <= middle
        low, high = torch.where(is_enough, low, middle), torch.where(is_enough, middle, high)
    return high


def expected_tries(beta: Chance, num_draws: int) -> Chance:
    """(1 - (1 - beta)^k) / beta, k at 0: how many of k draws are tried, until one is taken with chance beta."""
    tries = 0.0 * beta + 1.0
    for _ in range(num_draws - 1):
        tries = 1.0 + (1.0 - beta) * tries
    return tries


def spectr_residual(target_probs: Tensor, shares: Tensor, num_draws: int) -> Tensor:
    """[..., V]: distribution of the token drawn once all draws were refused."""
    return residual_rows(target_probs, shares * expected_tries(shares.sum(-1, keepdim=True), num_draws))


def residual_rows(target_probs: Tensor, matched: Tensor) -> Tensor:
    """[..., V] norm((p - m)+), p where nothing is left: `rejection.residual` of many rows."""
    excess = (target_probs - matched).clamp_min(0.0)
    total = excess.sum(-1, keepdim=True)
    return torch.where(total > 0, excess / total, target_probs)


def best_tokens(draft_probs: Tensor, count: int) -> Tensor:
    """[..., V] bool: the drafter's `count` best tokens, fewer where it gives no more of them any probability."""
    places = draft_probs.topk(min(count, draft_probs.shape[-1]), dim=-1).indices
    return torch.zeros_like(draft_probs, dtype=torch.bool).scatter(-1, places, True) & (draft_probs > 0)


def normalised(weights: Tensor) -> Tensor:
    """[..., V] weights over their sum; a row of zeros, whose branch has no probability, stays one."""
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 0.0)
