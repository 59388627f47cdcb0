"""The drafter's errors at tokens of a text, and the correction of its logits by them.

At a position i the drafter had the hidden state h_i (normalised here) and the probabilities q_i, the target p_i. To the
drafter's logits at a node with state h is added

    eta sum_i k_i (p_i - q_i) / (mass + sum_i k_i),  k_i = exp(beta (h . h_i - 1)).

Without the denominator it would be a gradient step on the drafter's output layer for each position (dynamic
evaluation, arXiv:1709.07432), in the dual form and with a kernel for the inner product; with it, a text that repeats
itself does not move the logits ever further, and few or unlike positions move them little. Of p_i - q_i the largest
entries are kept.

The sum is an attention of the node over the positions, and over one key more, of weight `mass` and with no error.
"""

from math import log
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ...controller.memory import MemoryConfig
from ..sampling import Sampling

LEAST_NORM = 1e-12  # of a row that only pads


class Rows(NamedTuple):
    """The drafter's rows at n tokens of a text."""

    logits: Tensor  # [n, V]
    states: Tensor  # [n, H]

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """One after another."""
        return cls(*(joined(columns) for columns in zip(*parts, strict=True)))


class Errors(NamedTuple):
    """Those at n positions of a text, or at those of each of B texts, [B, n, ...]."""

    states: Tensor  # [n, H] of the drafter, normalised
    tokens: Tensor  # [n, E] int64, where target and drafter differ most
    amounts: Tensor  # [n, E] by how much: target less drafter probability

    @classmethod
    def of(cls, states: Tensor, target_probs: Tensor, draft_probs: Tensor, entries: int) -> Self:
        """Of drafter states [n, H], normalised or not, and the probabilities [n, V] of both models."""
        amounts = target_probs - draft_probs
        tokens = amounts.abs().topk(min(entries, amounts.shape[-1]), sorted=False).indices
        return cls(unit(states.to(amounts.dtype)), tokens, amounts.gather(-1, tokens))


class KnownErrors(NamedTuple):
    """Errors at n positions of each of B texts as the attention over them takes them, behind the key of no error."""

    keys: Tensor  # [B, 1 + n, H]: beta times the states
    biases: Tensor  # [B, 1, 1 + n]: log(mass), then -beta, or -inf where nothing is remembered
    tokens: Tensor  # [B, 1, (1 + n) E] int64
    moves: Tensor  # [B, 1, 1 + n, E]: eta times the amounts

    @classmethod
    def of(cls, config: MemoryConfig, errors: Errors, unused: Tensor | None = None) -> Self:
        """Of `errors` [B, n, ...], without those at positions that are `unused` [B, n] bool."""
        states, tokens, amounts = (torch.cat((column.new_zeros(column[:, :1].shape), column), 1) for column in errors)
        biases = states.new_full(states.shape[:2], -config.beta)
        biases[:, 0] = log(config.mass)
        if unused is not None:
            biases[:, 1:].masked_fill_(unused, -torch.inf)
        return cls(config.beta * states, biases[:, None], tokens.flatten(1)[:, None], config.eta * amounts[:, None])

    def corrected(self, logits: Tensor, states: Tensor) -> Tensor:
        """[B, F, V] for the drafter's `logits` and `states` [B, F, H] at nodes of each text."""
        queries = unit(states.to(self.keys.dtype))
        weights = torch.baddbmm(self.biases, queries, self.keys.mT).softmax(-1)  # [B, F, 1 + n]
        moved = (weights.unsqueeze(-1) * self.moves).flatten(2)
        return logits.to(moved.dtype).scatter_add(-1, self.tokens.expand_as(moved), moved)


def unit(states: Tensor) -> Tensor:
    """[..., H] of length 1."""
    return states / torch.linalg.vector_norm(states, dim=-1, keepdim=True).clamp_min_(LEAST_NORM)


def joined(parts: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """[n, ...] of parts that are not empty, one after another; the only one itself."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def scale_of(sampling: Sampling) -> float:
    """The temperature at which probabilities of both models are compared: the text's, 1 where it is greedy."""
    return 1.0 if sampling.is_greedy else sampling.temperature


def scaled_probs(logits: Tensor, scales: float | Tensor, vocabulary_size: int) -> Tensor:
    """[n, V] of `logits` [n, >= V] at temperatures `scales`, [n, 1] or one for all; neither cut nor processed."""
    rows = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    if rows.shape[1] > vocabulary_size:
        rows = rows[:, :vocabulary_size]
    if isinstance(scales, Tensor):
        scales = scales.to(rows.dtype)
    elif scales == 1.0:
        return rows.softmax(-1)
    return (rows / scales).softmax(-1)
