"""The drafting schemes of the walk: the drafter's top children, ranked with the target's own noise or without it.

Coupled: rank by `draft_logit / T + g(position)`, with the very noise g the target's token will be drawn with, so that
drafter and target agree far more often than two independent draws (drafter-invariant coupling, arXiv:2408.07978).
Fixed: rank by the drafter's probability. At T = 0 the two are the same.

One more child may come from the text's own n-grams: the walk is exact for any tree.
"""

from functools import lru_cache
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import COUPLED, RANKED_SCHEMES, Scheme
from ...controller.errors import InputError
from ...controller.trees.children import Children
from ...controller.trees.tree import Array
from ..machine.transfer import sent_together, to_device, to_host
from ..sampling import TokenSampler
from ..surprise import entropy


def get_ranked_scheme(name: str) -> Scheme:
    """The scheme called `name`; InputError where there is none."""
    if name not in RANKED_SCHEMES:
        raise InputError(f"no drafting scheme is called {name!r}; the walk has {' and '.join(sorted(RANKED_SCHEMES))}")
    return RANKED_SCHEMES[name]


class Besides(NamedTuple):
    """What the texts' own n-grams say where a drafter has W candidates."""

    ranks: Array  # [B, F] of the first expected token that is no candidate, -1 where all are
    log_probs: Array  # [B, F, W + 1] float32, of the candidates and that one
    top_log_probs: Array  # [B, F] float32, of what they expect most


class Ngrams(Protocol):
    """The texts' own n-grams under a frontier of F nodes."""

    def expected(self, count: int) -> Array:
        """[B, F, count] int64 tokens, the most expected first, -1 behind the last."""
        ...

    def besides(self, candidates: Array) -> Besides:
        """Which of the tokens that were `expected` come beside `candidates` [B, F, W]."""
        ...


class Expected(NamedTuple):
    """One token more than a drafter has candidates, so that one of them is none of those."""

    ngrams: Ngrams
    tokens: Array  # [B, F, W + 1] int64, -1 behind the last
    sent: Tensor  # the same on the drafter's device

    @classmethod
    def of(cls, ngrams: Ngrams, width: int, device: torch.device) -> Self:
        tokens = ngrams.expected(width + 1)
        return cls(ngrams, tokens, to_device(tokens, device))


def draft(
    scheme: Scheme,
    logits: Tensor,
    positions: Array,
    width: int,
    sampler: TokenSampler,
    ngrams: Ngrams | None = None,
) -> Children:
    """What a `scheme` of the walk proposes by the drafter's `logits` [B, F, V] for tokens at text positions [B], or at
    one for each row, [B, F].

    What the n-grams expect is found while a device still computes the logits, and sent together with the positions.
    """
    places = positions.reshape(len(positions), -1) if scheme is COUPLED and not sampler.is_greedy else None
    tokens = None if ngrams is None else ngrams.expected(width + 1)
    places_there, tokens_there = sent_together(places, tokens, device=logits.device)
    scores = sampler.warp(logits)
    noise = None if places_there is None else sampler.noise(places_there, scores)
    if ngrams is None or tokens is None or tokens_there is None:
        return propose(scores, noise, width)
    return propose(scores, noise, width, Expected(ngrams, tokens, tokens_there))


def propose(scores: Tensor, noise: Tensor | None, width: int, expected: Expected | None = None) -> Children:
    """The `width` best children of each row of warped drafter `scores` [B, F, V] plus `noise` (same shape) if any, and
    behind them the first that the n-grams expect besides; after one wait."""
    log_probs = scores.log_softmax(dim=-1)
    noisy_log_probs = log_probs if noise is None else (scores + noise).log_softmax(dim=-1)
    tokens = noisy_log_probs.topk(min(width, scores.shape[-1]), dim=-1).indices
    asked = tokens if expected is None else torch.cat((tokens, expected.sent.clamp_min(0)), dim=-1)
    of_tokens, noisy_of_tokens = log_probs.gather(-1, asked), noisy_log_probs.gather(-1, asked)
    host = Children(*to_host(asked, of_tokens, noisy_of_tokens, entropy(log_probs), log_probs.amax(dim=-1)))
    return host if expected is None else _with_one_more(host, expected)


def _with_one_more(children: Children, expected: Expected) -> Children:
    """Of `children` [B, F, W + W + 1], whose last W + 1 are `expected`, the drafter's W and the first other one."""
    width = children.tokens.shape[-1] - expected.tokens.shape[-1]
    found = expected.ngrams.besides(children.tokens[..., :width])
    is_none, picks = found.ranks < 0, _picks(*children.tokens.shape, width + 1).copy()
    # Where there is no other one, fewer than W + 1 are expected, and the last is none.
    picks[..., width] += np.where(is_none, width, found.ranks)
    tokens, log_probs, noisy_log_probs = (column.reshape(-1)[picks] for column in children[:3])
    noisy_log_probs[is_none, width] = -np.inf
    return children._replace(
        tokens=tokens,
        log_probs=log_probs,
        noisy_log_probs=noisy_log_probs,
        ngram_log_probs=found.log_probs,
        ngram_top_log_probs=found.top_log_probs,
    )


@lru_cache(maxsize=256)
def _picks(num_trees: int, num_nodes: int, count: int, first: int) -> Array:
    """[B, F, first] int64: where the first of the `count` entries of each node lie in a flattened block."""
    return np.arange(num_trees * num_nodes * count).reshape(num_trees, num_nodes, count)[:, :, :first].copy()
