"""The drafting schemes of the walk: the drafter's top children, ranked with the target's own noise or without it.

Coupled: rank by `draft_logit / T + g(position)`, with the very noise g the target's token will be drawn with, so that
drafter and target agree far more often than two independent draws (drafter-invariant coupling, arXiv:2408.07978).
Fixed: rank by the drafter's probability. At T = 0 the two are the same.

One more child may come from the text's own n-grams: the walk is exact for any tree.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import COUPLED, RANKED_SCHEMES, Scheme
from ...controller.errors import InputError
from ...controller.trees.children import Children
from ...controller.trees.tree import Array
from ..drafters.ngrams.model import Expectation
from ..machine.transfer import to_device, to_host
from ..sampling import TokenSampler


def get_ranked_scheme(name: str) -> Scheme:
    """The scheme called `name`; InputError where there is none."""
    if name not in RANKED_SCHEMES:
        raise InputError(f"no drafting scheme is called {name!r}; the walk has {' and '.join(sorted(RANKED_SCHEMES))}")
    return RANKED_SCHEMES[name]


class NgramProposals(NamedTuple):
    """What the texts' own n-grams say under a frontier of F nodes with W candidates of the drafter each."""

    tokens: Array  # [B, F] int64, one more candidate, -1 where they expect nothing else
    log_probs: Array  # [B, F, W + 1], of the candidates and that one
    top_log_probs: Array  # [B, F], of what they expect most

    @classmethod
    def of(cls, expectations: Sequence[Sequence[Expectation]]) -> Self:
        """From those of each node of each tree."""
        tokens, log_probs, top_log_probs = (
            np.array([[expectation[column] for expectation in of_tree] for of_tree in expectations])
            for column in range(3)
        )
        return cls(tokens, log_probs.astype(np.float32), top_log_probs.astype(np.float32))


def draft(
    scheme: Scheme,
    logits: Tensor,
    positions: Array,
    width: int,
    sampler: TokenSampler,
    ngrams: Callable[[Array], NgramProposals] | None = None,
) -> Children:
    """What a `scheme` of the walk proposes by the drafter's `logits` [B, F, V] for tokens at text positions [B]."""
    noise = sampler.noise(positions[:, None]) if scheme is COUPLED else None
    return propose(sampler.warp(logits), noise, width, ngrams)


def propose(
    scores: Tensor, noise: Tensor | None, width: int, ngrams: Callable[[Array], NgramProposals] | None = None
) -> Children:
    """The `width` best children of each row of warped drafter `scores` [B, F, V] plus `noise` (same shape) if any, and
    behind them the one that `ngrams` names, asked with their tokens [B, F, W]."""
    log_probs = scores.log_softmax(dim=-1)
    noisy_log_probs = log_probs if noise is None else (scores + noise).log_softmax(dim=-1)
    tokens = noisy_log_probs.topk(min(width, scores.shape[-1]), dim=-1).indices
    proposals = None
    if ngrams is not None:
        proposals = ngrams(*to_host(tokens))
        more = to_device(np.maximum(proposals.tokens, 0)[..., None], tokens.device)
        tokens = torch.cat((tokens, more), dim=-1)
    # Clamped, a token the sampling cut adds 0 to the entropy, not 0 times infinity.
    entropies = -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)
    of_tokens, noisy_of_tokens = log_probs.gather(-1, tokens), noisy_log_probs.gather(-1, tokens)
    host = to_host(tokens, of_tokens, noisy_of_tokens, entropies, log_probs.amax(dim=-1))
    children = Children(*host)
    if proposals is None:
        return children
    children.noisy_log_probs[..., -1][proposals.tokens < 0] = -np.inf
    return children._replace(ngram_log_probs=proposals.log_probs, ngram_top_log_probs=proposals.top_log_probs)
