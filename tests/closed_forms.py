"""Closed forms of one node that the tests hold verifiers and labels against, exact and without coins.

Acceptance is the chance that the emitted token is among k i.i.d. draws; branching is the distribution of the emitted
token given the draws, whose mean over all lists is the target's row again.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from treewright.runtime.verification.acceptance import (
    expected_tries,
    normalised,
    residual_rows,
    spectr_residual,
    spectr_shares,
)

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


def best_tokens(draft_probs: Tensor, count: int) -> Tensor:
    """[..., V] bool: the drafter's `count` best tokens, fewer where it gives no more of them any probability."""
    places = draft_probs.topk(min(count, draft_probs.shape[-1]), dim=-1).indices
    return torch.zeros_like(draft_probs, dtype=torch.bool).scatter(-1, places, True) & (draft_probs > 0)


def naive_branching(target_probs: Tensor, draft_probs: Tensor, draws: Tensor) -> Tensor:
    """[..., V] from rows [..., V] and `draws` [..., k]: the first draw with min(1, p / q), else the residual.

    Of naive and naive tree alike; the latter follows a residual token that was drawn, too.
    """
    accept = _chance(target_probs, draft_probs, draws[..., 0])
    residual = residual_rows(target_probs, draft_probs)
    return _at(draws[..., 0], accept, target_probs) + (1.0 - accept)[..., None] * residual


def specinfer_branching(target_probs: Tensor, draft_probs: Tensor, draws: Tensor) -> Tensor:
    """[..., V]: the draws in their order, each with min(1, p_i / q), duplicates tried again."""
    chances, refused = torch.zeros_like(target_probs), torch.ones_like(target_probs[..., 0])
    for draw in draws.unbind(-1):
        accept = _chance(target_probs, draft_probs, draw)
        chances = chances + _at(draw, refused * accept, target_probs)
        refused = refused * (1.0 - accept)
        target_probs = residual_rows(target_probs, draft_probs)
    return chances + refused[..., None] * target_probs


def spectr_branching(target_probs: Tensor, draft_probs: Tensor, draws: Tensor) -> Tensor:
    """[..., V]: the draws in their order, each with min(1, p / (rho q)), then the residual."""
    shares = spectr_shares(target_probs, draft_probs, draws.shape[-1])
    chances, refused = torch.zeros_like(target_probs), torch.ones_like(target_probs[..., 0])
    for draw in draws.unbind(-1):
        accept = _chance(shares, draft_probs, draw)
        chances = chances + _at(draw, refused * accept, target_probs)
        refused = refused * (1.0 - accept)
    return chances + refused[..., None] * spectr_residual(target_probs, shares, draws.shape[-1])


def greedy_plus_one_branching(target_probs: Tensor, draft_probs: Tensor, draws: Tensor) -> Tensor:
    """[..., V] of the drafter's k - 1 best tokens, then one draw among the rest: the draw is tried first."""
    rest = ~best_tokens(draft_probs, draws.shape[-1] - 1)
    return naive_branching(target_probs, normalised(draft_probs * rest), draws[..., -1:])


def walk_branching(target_probs: Tensor, draft_probs: Tensor, draws: Tensor) -> Tensor:
    """[..., V]: the target's row, for any draft."""
    return target_probs


def _chance(shares: Tensor, draft_probs: Tensor, draw: Tensor) -> Tensor:
    """[...]: min(1, share / q) of the token drawn; 0 where its share is."""
    share, draft_prob = (probs.gather(-1, draw[..., None])[..., 0] for probs in (shares, draft_probs))
    return torch.where(share > 0, share / torch.maximum(share, draft_prob), 0.0)


def _at(draw: Tensor, chance: Tensor, like: Tensor) -> Tensor:
    """[..., V]: `chance` [...] at the token drawn, 0 elsewhere."""
    return chance[..., None] * one_hot(draw, like.shape[-1]).to(like.dtype)
