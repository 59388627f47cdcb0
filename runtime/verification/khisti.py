"""Importance-weighted selection of one draw, then naive verification of it (arXiv:2410.18234).

A tournament: the winner so far, of law r, meets the next draw, of law q. Of two different tokens i and j, met with
M_ij = r_i q_j + r_j q_i, one is selected, which gives the winner a law r' again; at the end the winner is accepted with
min(1, p / r), and refused, the residual norm((p - r)+) may land on any draw. The selection may be anything that looks
at the two tokens alone. It aims at a large sum min(p, r'): tokens are ranked by p - r q, and the better-ranked one
wins, but between two of the `NUM_WEIGHED` best a linear programme says how often. For two draws that is the paper's
truncated programme.
Cost: per round one O(V log V) sort and one programme of NUM_WEIGHED^2 / 2 variables on the host.
Soundness class: average-lossless for i.i.d. draws whose number is settled before the first, all drawn at once.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from ...controller.contract import VERIFIERS
from ...controller.tree import Array
from .sampled_tree import SampledTree
from .top_down import Offers, TopDownVerifier, acceptance, refuse

NUM_WEIGHED = 8


def tournament(tree: SampledTree, node: int) -> Offers:
    target_probs, draft_probs = tree.target_probs(node), tree.draft_probs[node]
    children = {tree.token(child): child for child in tree.draws(node)}
    first, *others = [tree.token(child) for child in tree.draws(node)]
    winner_probs, winners = draft_probs, {first: 1.0}
    for token in others:
        match = Match.between(winner_probs, draft_probs, target_probs)
        winner_probs = match.winner_probs
        kept = {old: chance * match.first_wins(old, token) for old, chance in winners.items()}
        winners = kept | {token: kept.get(token, 0.0) + 1.0 - sum(kept.values())}
    refused = 1.0
    for token, chance in winners.items():
        accepted = chance * acceptance(target_probs, winner_probs, token)
        yield children[token], min(1.0, accepted / refused)
        refused -= accepted
    return (yield from refuse(target_probs, winner_probs, children[first]))


class Match(NamedTuple):
    """How one round selects between two tokens, and the law of its winner."""

    places: Tensor  # [V] place of a token in the ranking, 0 the best
    upset: Array  # [S, S] probability that the lower-ranked wins between places i < j of the best S
    winner_probs: Tensor  # [V]

    @classmethod
    def between(cls, first_probs: Tensor, second_probs: Tensor, target_probs: Tensor) -> "Match":
        order = (target_probs - first_probs * second_probs).argsort(descending=True)
        first, second = first_probs[order].double(), second_probs[order].double()
        lower_first, lower_second = 1.0 - first.cumsum(0), 1.0 - second.cumsum(0)
        ranked = first * second + first * lower_second + second * lower_first
        best = slice(min(NUM_WEIGHED, len(order)))
        weighed = (first[best].outer(second[best]) + second[best].outer(first[best])).cpu().numpy()
        upset = _upsets(weighed, ranked[best].cpu().numpy(), target_probs[order[best]].double().cpu().numpy())
        moved = np.triu(weighed * upset, 1)
        ranked[best] += torch.from_numpy(moved.sum(axis=0) - moved.sum(axis=1)).to(ranked)
        winner_probs = torch.empty_like(target_probs)
        winner_probs[order] = ranked.clamp_min_(0.0).to(winner_probs)
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        return cls(places, upset, winner_probs)

    def first_wins(self, first: int, second: int) -> float:
        """Probability that token `first` is selected against token `second`."""
        if first == second:
            return 1.0
        one, other = int(self.places[first]), int(self.places[second])
        better, worse = min(one, other), max(one, other)
        upset = float(self.upset[better, worse]) if worse < len(self.upset) else 0.0
        return 1.0 - upset if one == better else upset


def _upsets(weighed: Array, ranked: Array, target_probs: Array) -> Array:
    """[S, S] share of each pair's mass `weighed` to give to its lower-ranked token, by the linear programme.

    Maximise sum of t_i with t_i <= p_i and t_i <= r_i after the moves, r_i being `ranked` before them.
    """
    size = len(ranked)
    better, worse = np.triu_indices(size, 1)
    limits = np.zeros((size, len(better) + size))  # t_i + moved away - moved here <= r_i
    pairs = np.arange(len(better))
    limits[better, pairs], limits[worse, pairs] = 1.0, -1.0
    limits[:, len(better) :] = np.eye(size)
    objective = np.concatenate((np.zeros(len(better)), -np.ones(size)))
    most = np.concatenate((weighed[better, worse], target_probs))
    moves = linprog(objective, A_ub=limits, b_ub=ranked, bounds=np.stack((np.zeros_like(most), most), axis=1)).x
    upset = np.zeros((size, size))
    if moves is not None:  # without an answer, the ranking decides
        mass = weighed[better, worse]
        upset[better, worse] = np.divide(moves[: len(mass)], mass, out=np.zeros_like(mass), where=mass > 0).clip(0, 1)
    return upset


VERIFIER = TopDownVerifier(VERIFIERS["khisti"], tournament, lands=True)
