"""How a model saw a token: what a text's history, a drafted level and a label say about a row."""

from typing import NamedTuple

from torch import Tensor

from ..controller.trees.tree import Array


class Surprises(NamedTuple):
    """Of the target's tokens behind the nodes of a batch of trees."""

    log_probs: Array  # [B, N] float32, of each token under the warped row it was drawn from
    entropies: Array  # [B, N] float32, nats, of that row


class Draws(NamedTuple):
    """The target's token behind every node of a batch of trees."""

    tokens: Array  # [B, N] int64
    surprises: Surprises | None


def surprise(scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """[B, N] log-probability of `tokens` [B, N] under their warped rows `scores` [B, N, V], and the rows' entropy."""
    log_probs = scores.log_softmax(dim=-1)
    return log_probs.gather(-1, tokens[..., None])[..., 0], entropy(log_probs)


def entropy(log_probs: Tensor) -> Tensor:
    """[...] nats, of rows of log-probabilities [..., V]."""
    # Clamped, a token the sampling cut adds 0 to the entropy, not 0 times infinity.
    return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)
