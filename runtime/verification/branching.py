"""Closed forms of one node given its draws: the distribution of the token that is emitted, for a list drawn from the
drafter.

Averaged over the lists, each is the target's row again: that is what makes the verifier lossless. The chance of a
path is the product of the chances of its tokens, so these add up to the expected block efficiency of a drafted tree.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .acceptance import best_tokens, normalised, residual_rows, spectr_residual, spectr_shares


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
