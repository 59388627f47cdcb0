"""Rejection of one draw: the probability that it is accepted, and what a refusal leaves of the target's row.

The draw has probability above 0 in `draft_probs` [V], or it could not have been made, but the target's may be 0 in the
number format: such a draw is never accepted. Where rounding leaves no residual, the target's row itself is emitted
from: only rounding can have refused the draw, and the emitted token must be one that the target can generate.
"""

from torch import Tensor


def acceptance(target_probs: Tensor, draft_probs: Tensor, token: int, weight: float = 1.0) -> float:
    """min(1, weight p / q) of one token; 0 where p is."""
    target, draft = weight * float(target_probs[token]), float(draft_probs[token])
    return target / max(target, draft) if target > 0 else 0.0


def residual(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """[V] norm((p - q)+)."""
    return weighted_residual(1.0, target_probs, draft_probs)[1]


def weighted_residual(weight: float, target_probs: Tensor, draft_probs: Tensor) -> tuple[float, Tensor]:
    """S / (S + 1 - w) and norm((w p - q)+), where S is the sum of (w p - q)+.

    This is what is left of the weight and of the row; where S is 0, nothing of a weight below 1.
    """
    weighted = target_probs if weight == 1 else weight * target_probs
    rest = (weighted - draft_probs).clamp_min_(0.0)
    total = float(rest.sum())
    if total > 0:
        return total / (total + (1.0 - weight)), rest.div_(total)
    return (1.0 if weight == 1 else 0.0), target_probs
