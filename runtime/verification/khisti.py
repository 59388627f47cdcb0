"""Importance-weighted selection of one draw, then naive verification of it (arXiv:2410.18234).

A tournament: the winner so far, of distribution r, meets the next draw, of distribution q, and one of the two is
selected, which gives a winner of another distribution r'. At the end the winner is accepted with min(1, p / r), and
refused, the residual norm((p - r)+) may land on any draw. The selection may be anything that uses the two tokens
alone, so long as r' is truly its distribution. A linear programme chooses it for the largest overlap sum min(p, r'). It
is the paper's for the `NUM_SINGLE` tokens of largest p - r q; all others are pooled by their ratio p / r, and of two
tokens of one pool the first wins. Where the pools spoil the gain, the first wins always, so another draw never costs
overlap. Cost: per round some O(V) rows, and one programme of (NUM_SINGLE + 1 + len(POOL_RATIOS))^2 variables on the
host. Soundness class: average-lossless for i.i.d. draws whose number is settled before the first, all drawn at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from ...controller.trees.tree import Array
from .rejection import acceptance, residual
from .sampled_tree import SampledTree
from .top_down import Offers, TopDown

NUM_SINGLE = 6
POOL_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


def tournament(tree: SampledTree, node: int) -> Offers:
    target_probs = tree.target_probs(node)
    draws = tree.draws(node)
    children = {tree.token(child): child for child in draws}
    selected, winner_probs = winners(target_probs, tree.draft_probs(node), [tree.token(child) for child in draws])
    chances, refused = [*selected.values()], 0.0
    for place, (token, chance) in enumerate(selected.items()):
        accepted = chance * acceptance(target_probs, winner_probs, token)
        if accepted > 0:
            yield children[token], accepted / (refused + sum(chances[place:]))
        refused += chance - accepted
    return residual(target_probs, winner_probs)


def winners(target_probs: Tensor, draft_probs: Tensor, tokens: Sequence[int]) -> tuple[dict[int, float], Tensor]:
    """The chance of each of the drawn `tokens` to be selected, and the distribution [V] of the winner over all
    lists."""
    first, *others = tokens
    winner_probs, selected = draft_probs, {first: 1.0}
    for token in others:
        match = Match.between(winner_probs, draft_probs, target_probs)
        winner_probs = match.winner_probs
        beaten = 0.0
        for old, chance in selected.items():
            loses = chance * (1.0 - match.first_wins(old, token))
            selected[old] = chance - loses
            beaten += loses
        selected[token] = selected.get(token, 0.0) + beaten
    return selected, winner_probs


class Match(NamedTuple):
    """How one round selects between two tokens, by the cells they lie in, and the distribution of its winner."""

    cells: Tensor  # [V] int64
    first_kept: Array  # [C, C] probability that a first token in one cell is selected against a second in another
    winner_probs: Tensor  # [V]

    @classmethod
    def between(cls, first_probs: Tensor, second_probs: Tensor, target_probs: Tensor) -> "Match":
        num_single = min(NUM_SINGLE, len(target_probs))
        single = (target_probs - first_probs * second_probs).topk(num_single).indices
        cells = torch.full_like(target_probs, num_single, dtype=torch.int64)
        for ratio in POOL_RATIOS:
            cells += target_probs > ratio * first_probs
        cells[single] = torch.arange(num_single, device=cells.device)
        num_cells = num_single + 1 + len(POOL_RATIOS)
        rows = torch.stack((first_probs, second_probs, target_probs)).double()
        sums = rows.new_zeros((3, num_cells)).index_add_(1, cells, rows).cpu().numpy()
        first_kept = _best_selection(*sums)
        if first_kept is not None:
            firsts = torch.from_numpy(first_kept @ sums[1]).to(rows)  # [C] probability that a first is kept
            seconds = torch.from_numpy(sums[0] @ (1.0 - first_kept)).to(rows)  # [C] that a second is taken
            winner_probs = (rows[0] * firsts[cells] + rows[1] * seconds[cells]).to(target_probs)
            if torch.minimum(winner_probs, target_probs).sum() > torch.minimum(first_probs, target_probs).sum():
                return cls(cells, first_kept, winner_probs)
        return cls(cells, np.ones((num_cells, num_cells)), first_probs)

    def first_wins(self, first: int, second: int) -> float:
        """Probability that token `first` is selected against token `second`."""
        return float(self.first_kept[int(self.cells[first]), int(self.cells[second])])


def _best_selection(first: Array, second: Array, target: Array) -> Array | None:
    """[C, C] `first_kept` from cell sums [C] each, by the linear programme; None where it has no answer.

    Over the mass x_ij of a first in cell i that a second in cell j takes the place of, maximise sum of t_i with
    t_i <= p_i and t_i <= r_i + sum_j x_ji - sum_j x_ij.
    """
    size = len(target)
    losing, winning = np.nonzero(np.outer(first, second) * ~np.eye(size, dtype=bool))
    moves = np.arange(len(losing))
    limits = np.zeros((size, len(moves) + size))
    limits[losing, moves], limits[winning, moves] = 1.0, -1.0
    limits[:, len(moves) :] = np.eye(size)
    objective = np.concatenate((np.zeros(len(moves)), -np.ones(size)))
    most = np.concatenate((first[losing] * second[winning], target))
    taken = linprog(objective, A_ub=limits, b_ub=first, bounds=np.stack((np.zeros_like(most), most), axis=1)).x
    if taken is None:
        return None
    first_kept = np.ones((size, size))
    first_kept[losing, winning] -= taken[: len(moves)] / most[: len(moves)]
    return first_kept.clip(0.0, 1.0)


METHOD = TopDown(tournament, lands=True)
