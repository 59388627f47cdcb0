"""The sampling cut: top-k, then top-p, of many rows at once, each by settings of its own.

Tokens as good as the least of a set belong to it, so that the cut does not depend on the order of equals. A token's
mass is a whole number of 2^-42 of the best token's: sums of integers are the same in any order, so the cut of a row
does not depend on the rows beside it, nor on the kernel that adds them up.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array
from .machine.transfer import to_device

MASS_OF_BEST = 2.0**42  # a row of two million tokens stays below 2^63
# On the host, tokens that are searched for the mass before all are: those down to this far below the best, in nats.
REACHES = (8.0, 16.0, np.inf)


class Limits(NamedTuple):
    """The cuts of B texts in a vocabulary of V tokens."""

    top_ks: Sequence[int]  # V: no limit
    top_ps: Sequence[float]  # 1: no limit
    sent: Tensor  # [2, B] int64 on the device, of each text the last rank that its top-k keeps, and its top-p's bits

    @classmethod
    def of(cls, top_ks: Sequence[int], top_ps: Sequence[float], vocabulary_size: int, device: torch.device) -> Self:
        """A top-k of 0 is no limit."""
        counts = [min(top_k or vocabulary_size, vocabulary_size) for top_k in top_ks]
        # Above 1, a mass that no sum of masses reaches.
        masses = np.array([top_p if top_p < 1 else 2.0 for top_p in top_ps])
        return cls(counts, top_ps, to_device(np.stack((np.array(counts) - 1, masses.view(np.int64))), device))

    def of_text(self, index: int) -> "Limits":
        only = slice(index, index + 1)
        return Limits(self.top_ks[only], self.top_ps[only], self.sent[:, only])


def cut(scores: Tensor, limits: Limits) -> Tensor:
    """[B, ..., V] scores with all masked to -inf but the top-k best of each row, and of these the fewest best that hold
    the mass top-p."""
    least = least_on_host(scores, limits) if scores.device.type == "cpu" else least_kept(scores, limits)
    return scores.masked_fill(scores < least, -torch.inf)


def least_kept(scores: Tensor, limits: Limits) -> Tensor:
    """[B, ..., 1] the least score that each row keeps, with nothing read back."""
    size, most = scores.shape[-1], max(limits.top_ks)
    per_row = (-1,) + (1,) * (scores.dim() - 1)
    lasts, top_ps = limits.sent[0].view(per_row), limits.sent[1].view(torch.float64).view(per_row)
    ordered = (scores.topk(most) if most < size else scores.sort(dim=-1, descending=True)).values
    least = ordered.gather(-1, lasts.expand(*scores.shape[:-1], 1)) if min(limits.top_ks) < size else None
    if min(limits.top_ps) == 1 and least is not None:
        return least
    best = ordered[..., :1]
    masses = _masses(ordered - best, ordered, least)
    sums = masses.cumsum(dim=-1)
    # Beyond the best `most`, there may be more that are as good as the last of them.
    total = _masses(scores - best, scores, least).sum(dim=-1, keepdim=True) if most < size else sums[..., -1:]
    of_mass = ordered.masked_fill(sums - masses >= top_ps * total, torch.inf).amin(dim=-1, keepdim=True)
    return of_mass if least is None else torch.maximum(least, of_mass)


def _masses(below_best: Tensor, scores: Tensor, least: Tensor | None) -> Tensor:
    masses = (below_best.exp() * MASS_OF_BEST).long()
    return masses if least is None else masses.masked_fill_(scores < least, 0)


def least_on_host(scores: Tensor, limits: Limits) -> Tensor:
    """The same, row by row: what an op leaves in the processor's cache, the next one reads."""
    texts = zip(scores.reshape(len(scores), -1, scores.shape[-1]), limits.top_ks, limits.top_ps, strict=True)
    least = [[_least_of_row(row, top_k, top_p) for row in rows] for rows, top_k, top_p in texts]
    return torch.tensor(least, dtype=scores.dtype).view(*scores.shape[:-1], 1)


def _least_of_row(row: Tensor, top_k: int, top_p: float) -> float:
    """Of a row [V]; ordering a whole vocabulary would take ten times as long as all the rest."""
    values: Array = row.numpy()
    least = row.topk(top_k).values[-1].item() if top_k < len(values) else -np.inf
    if top_p == 1:
        return least
    if top_k < len(values):
        values = values[values >= least]
    best = values.max()
    if not np.isfinite(best):  # a broken model's; there is no mass to speak of
        return least
    masses = _host_masses(values - best)
    wanted = top_p * masses.sum()
    nearest = (values >= best - reach for reach in REACHES)
    is_near = next(is_near for is_near in nearest if masses[is_near].sum() >= wanted)
    ordered = -np.sort(-values[is_near])
    masses = _host_masses(ordered - best)
    return ordered[np.count_nonzero(masses.cumsum() - masses < wanted) - 1].item()


def _host_masses(below_best: Array) -> Array:
    return (np.exp(below_best) * below_best.dtype.type(MASS_OF_BEST)).astype(np.int64)
