"""Block efficiency of sampled trees without drafting any: from both models' rows over a text of the target.

In a tree of K i.i.d. paths, what a verifier does below a node on the text depends on the text's rows and on how many
of the K paths run through the node. Along a text that the target wrote, the chance of each multiplicity is a small
vector, and its sum after d tokens, over the text's own probability, is the chance that at least d draft tokens are
accepted *given that this will be the text*. Its mean over texts is the exact block efficiency of
every (K, L1, L2), from one teacher-forced pass of each model. This module reduces the rows over the vocabulary to a
small matrix per position; `train.shapes.survival` multiplies those. The texts have to be drawn at the sampling
settings the labels are for. There is no such form for Traversal; a chain of it is block verification.
"""

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor
from torch.nn.functional import pad

from .acceptance import normalised, spectr_residual, spectr_shares

# (target_probs [n, V], draft_probs [n, V], tokens [n], num_draws) -> [n, num_draws + 1]: by m, the chance that the
# token is emitted and drawn m times
Multiplicities = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def naive_tree_multiplicities(target_probs: Tensor, draft_probs: Tensor, tokens: Tensor, num_draws: int) -> Tensor:
    target_prob, draft_prob = _picked(target_probs, tokens), _picked(draft_probs, tokens)
    others = _binomial(draft_prob, num_draws - 1)
    accepted = torch.minimum(target_prob, draft_prob)[:, None] * pad(others, (1, 0))
    return accepted + (target_prob - draft_prob).clamp_min(0.0)[:, None] * pad(others, (0, 1))


def specinfer_multiplicities(target_probs: Tensor, draft_probs: Tensor, tokens: Tensor, num_draws: int) -> Tensor:
    accepted, refused = [], []
    for _ in range(num_draws):
        accepted.append(_picked(torch.minimum(target_probs, draft_probs), tokens))
        excess = (target_probs - draft_probs).clamp_min(0.0)
        refused.append(excess.sum(-1))
        target_probs = normalised(excess)
    return _in_turn(accepted, refused, _picked(draft_probs, tokens), _picked(target_probs, tokens))


def spectr_multiplicities(target_probs: Tensor, draft_probs: Tensor, tokens: Tensor, num_draws: int) -> Tensor:
    shares = spectr_shares(target_probs, draft_probs, num_draws)
    residual = spectr_residual(target_probs, shares, num_draws)
    share, refused = _picked(shares, tokens), (draft_probs - shares).sum(-1)
    return _in_turn([share] * num_draws, [refused] * num_draws, _picked(draft_probs, tokens), _picked(residual, tokens))


MULTIPLICITIES: dict[str, Multiplicities] = {
    "naive-tree": naive_tree_multiplicities,
    "specinfer": specinfer_multiplicities,
    "spectr": spectr_multiplicities,
}


def transfer_matrices(
    multiplicities: Multiplicities, target_probs: Tensor, draft_probs: Tensor, tokens: Tensor, num_paths: int
) -> Tensor:
    """[n, K, K]: at each token of a text, from k = 1 ... K paths through the node before it to m through its own.

    `target_probs`, `draft_probs` [n, V] are the rows `tokens` [n] were drawn after. O(K^2 V) per token.
    """
    rows = [multiplicities(target_probs, draft_probs, tokens, count)[:, 1:] for count in range(1, num_paths + 1)]
    matrices = torch.stack([pad(row, (0, num_paths - row.shape[1])) for row in rows], dim=1)
    return over_target(matrices, target_probs, tokens)


def token_ratios(target_probs: Tensor, draft_probs: Tensor, tokens: Tensor) -> Tensor:
    """[n]: the drafter's probability of each token over the target's, from which a chain follows: under naive
    verification by min(1, q / p), under block verification by the least product up to each depth."""
    return over_target(_picked(draft_probs, tokens), target_probs, tokens)


def landing_chances(target_probs: Tensor, draft_probs: Tensor, tokens: Tensor, num_sides: int) -> Tensor:
    """[n, num_sides]: by k, the chance that a token is one of the drafter's k best besides the draw in whose place it
    was emitted, because naive verification refused that one. Its mean over what may be emitted is the share of the
    residual (p - q)+ that those k candidates hold.

    Above rank k it is one whatever was drawn; at rank k it is if the draw, which is refused by (q - p)+, ranks higher.
    """
    draft_prob = _picked(draft_probs, tokens)
    ranks_higher = draft_probs > draft_prob[:, None]
    refused = (draft_probs - target_probs).clamp_min(0.0)
    higher = ((refused * ranks_higher).sum(-1) / refused.sum(-1)).nan_to_num(0.0)
    ranks, counts = ranks_higher.sum(-1)[:, None], torch.arange(1, num_sides + 1, device=draft_probs.device)
    chances = (ranks < counts) + (ranks == counts) * higher[:, None]
    return torch.where(draft_prob[:, None] > 0, chances, 0.0)


def over_target(values: Tensor, target_probs: Tensor, tokens: Tensor) -> Tensor:
    """`values` [n, ...] over the target's probability of `tokens` [n]; 0 where that is 0, by rounding alone, since the
    target wrote the text."""
    probs = _picked(target_probs, tokens).view(-1, *[1] * (values.dim() - 1))
    return torch.where(probs > 0, values / probs, 0.0)


def _in_turn(accepted: list[Tensor], refused: list[Tensor], draft_prob: Tensor, last: Tensor) -> Tensor:
    """[n, k + 1] of a verifier that tries k draws in turn: by m, the chance that token t is emitted and drawn m times.

    Of try i, `accepted[i]` [n] is the chance that it draws and accepts t, `refused[i]` [n] that it refuses whatever it
    draws; `draft_prob` [n] is q(t), `last` [n] the chance of t once all are refused. The coefficients of
    sum_i prod_{j<i} (refusal of j) accepted_i z ((1 - q) + q z)^(k - i) + prod_j (refusal of j) last,
    where a refusal of t itself carries a z, by Horner's rule.
    """
    chances = last[:, None]
    for count, (accept, refuse) in enumerate(zip(reversed(accepted), reversed(refused), strict=True)):
        refused_token = draft_prob - accept
        passed = pad((refuse - refused_token)[:, None] * chances, (0, 1)) + pad(
            refused_token[:, None] * chances, (1, 0)
        )
        chances = passed + pad(accept[:, None] * _binomial(draft_prob, count), (1, 0))
    return chances


def _binomial(prob: Tensor, count: int) -> Tensor:
    """[n, count + 1]: chance of each number of successes."""
    successes = torch.arange(count + 1, device=prob.device)
    ways = prob.new_tensor([comb(count, number) for number in range(count + 1)])
    return ways * prob[:, None] ** successes * (1.0 - prob[:, None]) ** (count - successes)


def _picked(probs: Tensor, tokens: Tensor) -> Tensor:
    return probs.gather(-1, tokens[:, None])[:, 0]
