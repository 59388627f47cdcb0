"""The sampling cut: top-k, then top-p, of many rows at once, each by settings of its own.

Tokens as good as the least of a set belong to it, so that the cut does not depend on the order of equals. A token's
mass is a whole number of 2^-42 of the best token's: sums of integers are the same in any order, so the cut of a row
does not depend on the rows beside it, nor on the kernel that adds them up.
"""

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array

MASS_OF_BEST = 2.0**42  # a row of two million tokens stays below 2^63
# On the host, tokens that are searched for the mass before all are: those down to this far below the best, in nats.
REACHES = (8.0, 16.0, np.inf)


def cut(scores: Tensor, top_ks: Tensor, top_ps: Tensor) -> Tensor:
    """[B, ..., V] scores with all masked to -inf but the `top_ks` [B] best of each row (0: no limit), and of these the
    fewest best that hold mass `top_ps` [B] float64."""
    if scores.device.type == "cpu":
        least = _least_on_host(scores, top_ks.tolist(), top_ps.tolist())
    else:
        per_row = (-1,) + (1,) * (scores.dim() - 1)
        least = least_kept(scores, top_ks.view(per_row), top_ps.view(per_row))
    return scores.masked_fill(scores < least, -torch.inf)


def least_kept(scores: Tensor, top_ks: Tensor, top_ps: Tensor) -> Tensor:
    """[B, ..., 1] the least score that each row keeps. Nothing is read back: one sort serves both limits."""
    ordered = scores.sort(dim=-1, descending=True).values
    size = scores.shape[-1]
    last = torch.where(top_ks > 0, top_ks, size).clamp_max(size) - 1
    of_last = ordered.gather(-1, last.expand(*scores.shape[:-1], 1))
    is_cut = ordered < of_last
    below_best = ordered - ordered[..., :1]
    masses = (below_best.exp().double() * MASS_OF_BEST).long().masked_fill_(is_cut, 0)
    sums = masses.cumsum(dim=-1)
    total = sums[..., -1:]
    wanted = torch.where(top_ps < 1, (top_ps * total).ceil().long().clamp_min(1), total + 1)
    is_cut |= sums - masses >= wanted
    return ordered.masked_fill(is_cut, torch.inf).amin(dim=-1, keepdim=True)


def _least_on_host(scores: Tensor, top_ks: list[int], top_ps: list[float]) -> Tensor:
    """The same, row by row: what an op leaves in the processor's cache, the next one reads."""
    least = [
        [_least_of_row(row, top_k, top_p) for row in rows]
        for rows, top_k, top_p in zip(scores.reshape(len(scores), -1, scores.shape[-1]), top_ks, top_ps, strict=True)
    ]
    return torch.tensor(least, dtype=scores.dtype).view(*scores.shape[:-1], 1)


def _least_of_row(row: Tensor, top_k: int, top_p: float) -> float:
    """Of a row [V]; ordering a whole vocabulary would take ten times as long as all the rest."""
    values: Array = row.numpy()
    if 0 < top_k < len(values):
        least = row.topk(top_k).values[-1].item()
        if top_p == 1:
            return least
        values = values[values >= least]
    elif top_p == 1:
        return -np.inf
    best = values.max()
    masses = _masses(values - best)
    wanted = max(1, int(np.ceil(top_p * masses.sum())))
    for reach in REACHES:
        is_near = values >= best - reach
        if masses[is_near].sum() >= wanted:
            break
    ordered = -np.sort(-values[is_near])
    return ordered[np.searchsorted(_masses(ordered - best).cumsum(), wanted)].item()


def _masses(below_best: Array) -> Array:
    return (np.exp(below_best).astype(np.float64) * MASS_OF_BEST).astype(np.int64)
