"""Rows of SpecTr's selection and residuals, vectorised over rows: what labels that need no drafts are made of.

All are functions of the target's row, the drafter's row and the number of i.i.d. draws (arXiv:2310.15141).
"""

from typing import TypeVar

import torch
from torch import Tensor

# What halving the interval of SpecTr's division factor so often leaves of it is below the rounding of float64.
NUM_BISECTIONS = 60

Chance = TypeVar("Chance", float, Tensor)


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


def normalised(weights: Tensor) -> Tensor:
    """[..., V] weights over their sum; a row of zeros, whose branch has no probability, stays one."""
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 0.0)
