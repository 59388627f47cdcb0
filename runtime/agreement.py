"""The numbers of `controller.learned.agreement` from rows of both models."""

import torch
from torch import Tensor

from ..controller.learned.agreement import MOST_LOG_RATIO


def last_numbers(target_log_probs: Tensor, draft_log_probs: Tensor) -> Tensor:
    """[n, 6] of verified positions, from both models' warped rows [n, V]."""
    target_probs, draft_probs = target_log_probs.exp(), draft_log_probs.exp()
    ratios = (target_log_probs - draft_log_probs).nan_to_num(0.0).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return torch.stack(
        (
            torch.special.entr(draft_probs).sum(-1),
            torch.minimum(target_probs, draft_probs).sum(-1),
            (target_probs * ratios).sum(-1),
            -(draft_probs * ratios).sum(-1),
            _lead(target_probs),
            _lead(draft_probs),
        ),
        dim=-1,
    )


def root_numbers(draft_log_probs: Tensor) -> Tensor:
    """[n, 3] of roots, from the drafter's warped rows [n, V]."""
    probs = draft_log_probs.exp()
    return torch.stack((torch.special.entr(probs).sum(-1), probs.amax(-1), _lead(probs)), dim=-1)


def _lead(probs: Tensor) -> Tensor:
    best = probs.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]
