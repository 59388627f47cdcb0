"""The drafting laws of the walk: the drafter's top children, ranked with the target's own noise or without it.

Coupled: rank by `draft_logit / T + g(position)`, with the very noise g the target's token will be drawn with, so that
drafter and target agree far more often than two independent draws (drafter-invariant coupling, arXiv:2408.07978).
Fixed: rank by the drafter's probability. At T = 0 the two are the same.
"""

from torch import Tensor

from ...controller.contract import LAWS, LawTerms
from ...controller.errors import InputError
from ...controller.tree import Children


def get_law(name: str) -> LawTerms:
    """The law called `name`; InputError where there is none."""
    if name not in LAWS:
        raise InputError(f"no drafting law is called {name!r}; the walk has {' and '.join(sorted(LAWS))}")
    return LAWS[name]


def propose(scores: Tensor, noise: Tensor | None, width: int) -> Children:
    """The `width` best children of each row of warped drafter `scores` [B, F, V] plus `noise` (same shape) if any."""
    log_probs = scores.log_softmax(dim=-1)
    noisy_log_probs = log_probs if noise is None else (scores + noise).log_softmax(dim=-1)
    noisy, tokens = noisy_log_probs.topk(min(width, scores.shape[-1]), dim=-1)
    # Clamped, a token the sampling cut adds 0 to the entropy, not 0 times infinity.
    entropies = -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)
    return Children(
        tokens=tokens.cpu().numpy(),
        log_probs=log_probs.gather(-1, tokens).float().cpu().numpy(),
        noisy_log_probs=noisy.float().cpu().numpy(),
        entropies=entropies.float().cpu().numpy(),
        top_log_probs=log_probs.amax(dim=-1).float().cpu().numpy(),
    )
