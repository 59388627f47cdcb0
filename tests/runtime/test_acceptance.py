"""Closed forms of one node against sums over all lists of draws, on vocabularies of three to five tokens."""

import itertools

import numpy as np
import pytest
import torch
from closed_forms import (
    ACCEPTANCES,
    acceptance_ceiling,
    best_tokens,
    greedy_plus_one_branching,
    naive_branching,
    specinfer_branching,
    spectr_branching,
    walk_branching,
)
from scipy.optimize import linprog
from treewright.runtime.verification.acceptance import normalised
from treewright.runtime.verification.khisti import winners
from treewright.runtime.verification.rejection import acceptance, residual

BRANCHINGS = {
    "walk": walk_branching,
    "naive": naive_branching,
    "naive-tree": naive_branching,
    "specinfer": specinfer_branching,
    "spectr": spectr_branching,
    "greedy-plus-one": greedy_plus_one_branching,
}
EXACT = {"rtol": 0, "atol": 1e-12}


def random_rows(number, vocabulary_size=4, sharpness=1.0, generator=None):
    """[number, V] probabilities in float64."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    logits = sharpness * torch.randn(number, vocabulary_size, generator=generator, dtype=torch.float64)
    return logits.softmax(-1)


def row_pairs():
    """Target and drafter rows [n, 4] of all sorts: alike, far apart, equal, disjoint, with zeros, one-hot."""
    generator = torch.Generator().manual_seed(1)
    target_probs, draft_probs = (random_rows(40, sharpness=2.0, generator=generator) for _ in range(2))
    zeros = torch.tensor([True, False, True, False])
    special = [[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75], [1.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]]
    special = torch.tensor(special, dtype=torch.float64)
    pairs = list(itertools.product(special, repeat=2))
    cut = normalised(target_probs[:8].masked_fill(zeros, 0.0)), draft_probs[:8]
    return (
        torch.cat((target_probs, torch.stack([pair[0] for pair in pairs]), cut[0], cut[1])),
        torch.cat((draft_probs, torch.stack([pair[1] for pair in pairs]), cut[1], cut[0])),
    )


def lists(name, draft_probs, num_draws):
    """Every list of draws, for all rows at once: draws [n, k] and the probability of each [n]."""
    if name == "greedy-plus-one":
        best = best_tokens(draft_probs, num_draws - 1)
        distribution = normalised(draft_probs * ~best)
        for drawn in range(draft_probs.shape[-1]):
            indices = torch.stack([torch.nonzero(row)[:, 0] for row in best])
            yield (
                torch.cat((indices, torch.full_like(distribution[:, :1], drawn, dtype=torch.int64)), dim=1),
                distribution[:, drawn],
            )
        return
    for tokens in itertools.product(range(draft_probs.shape[-1]), repeat=num_draws):
        yield torch.tensor([tokens] * len(draft_probs)), draft_probs[:, list(tokens)].prod(-1)


def outcomes(name, target_probs, draft_probs, num_draws):
    """[n, V] mean distribution of the token emitted, and [n] chance that it is one of the draws, by summing over all
    lists."""
    emitted, accepted = torch.zeros_like(target_probs), torch.zeros_like(target_probs[:, 0])
    for draws, weights in lists(name, draft_probs, num_draws):
        possible = weights > 0
        draws, weights = draws[possible], weights[possible]
        distribution = BRANCHINGS[name](target_probs[possible], draft_probs[possible], draws)
        emitted[possible] += weights[:, None] * distribution
        drawn = torch.zeros_like(distribution, dtype=torch.bool).scatter(
            1, draws[:, :1] if name == "naive" else draws, True
        )
        accepted[possible] += weights * (distribution * drawn).sum(-1)
    return emitted, accepted


@pytest.mark.parametrize("num_draws", [1, 2, 3])
@pytest.mark.parametrize("name", ACCEPTANCES)
def test_acceptance_and_distribution_are_those_of_all_lists_of_draws(name, num_draws):
    target_probs, draft_probs = row_pairs()
    if name == "greedy-plus-one":  # a drafter that gives fewer than k tokens any probability has nothing to draw
        enough = (draft_probs > 0).sum(-1) >= num_draws
        target_probs, draft_probs = target_probs[enough], draft_probs[enough]
    emitted, accepted = outcomes(name, target_probs, draft_probs, num_draws)
    torch.testing.assert_close(emitted, target_probs, **EXACT)
    torch.testing.assert_close(ACCEPTANCES[name](target_probs, draft_probs, num_draws), accepted, **EXACT)


def khisti_branching(target_row, draft_row, draws):
    """[V] distribution of the token emitted given the draws, from one row each."""
    selected, winner_probs = winners(target_row, draft_row, draws)
    chances = torch.zeros_like(target_row)
    for token, chance in selected.items():
        chances[token] = chance * acceptance(target_row, winner_probs, token)
    return chances + (1.0 - chances.sum()) * residual(target_row, winner_probs)


def khisti_overlap(target_row, draft_row, num_draws):
    """Sum of min(p, r): the chance that the winner, whose distribution r does not depend on the draws, is accepted.
    That any draw is, by landing too, is at least this."""
    _, winner_probs = winners(target_row, draft_row, [0] * num_draws)
    return float(torch.minimum(target_row, winner_probs).sum())


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_khistis_winner_and_residual_keep_the_targets_distribution_over_all_lists_of_draws(num_draws):
    """Where landing adds nothing, at one draw, the winner's overlap is all there is."""
    target_probs, draft_probs = (rows[::4] for rows in row_pairs())
    for target_row, draft_row in zip(target_probs, draft_probs, strict=True):
        emitted, accepted = torch.zeros_like(target_row), 0.0
        for draws in itertools.product(range(len(draft_row)), repeat=num_draws):
            weight = float(draft_row[list(draws)].prod())
            if weight > 0:
                distribution = khisti_branching(target_row, draft_row, draws)
                emitted += weight * distribution
                accepted += weight * float(distribution[list(set(draws))].sum())
        torch.testing.assert_close(emitted, target_row, **EXACT)
        overlap = khisti_overlap(target_row, draft_row, num_draws)
        assert accepted >= overlap - 1e-12
        assert overlap >= khisti_overlap(target_row, draft_row, 1) - 1e-12
        if num_draws == 1:
            assert accepted == pytest.approx(overlap, abs=1e-12)
            assert overlap == pytest.approx(float(ACCEPTANCES["naive"](target_row, draft_row, 1)), abs=1e-12)
        assert accepted <= float(acceptance_ceiling(target_row, draft_row, num_draws)) + 1e-12


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_the_ceiling_is_the_optimal_transport_between_lists_and_token(num_draws):
    target_probs, draft_probs = row_pairs()
    size = 3
    target_probs, draft_probs = normalised(target_probs[:24, :size]), normalised(draft_probs[:24, :size])
    all_lists = list(itertools.product(range(size), repeat=num_draws))
    gain = [-float(token in tokens) for tokens in all_lists for token in range(size)]
    of_list = np.eye(len(all_lists)).repeat(size, axis=1)
    of_token = np.tile(np.eye(size), (1, len(all_lists)))
    for target_row, draft_row in zip(target_probs, draft_probs, strict=True):
        weights = np.array([float(draft_row[list(tokens)].prod()) for tokens in all_lists])
        plan = linprog(
            gain, A_eq=np.concatenate((of_list, of_token)), b_eq=np.concatenate((weights, target_row.numpy()))
        )
        # The programme's solver meets its constraints to 1e-7.
        assert float(acceptance_ceiling(target_row, draft_row, num_draws)) == pytest.approx(-plan.fun, abs=1e-6)


@pytest.mark.parametrize("num_draws", [2, 3, 5])
def test_the_verifiers_of_iid_draws_keep_their_order_on_every_row(num_draws):
    generator = torch.Generator().manual_seed(2)
    target_probs, draft_probs = (random_rows(20_000, 8, sharpness=1.5, generator=generator) for _ in range(2))
    names = ("spectr", "specinfer", "naive-tree", "walk")
    falling = [acceptance_ceiling(target_probs, draft_probs, num_draws)]
    falling += [ACCEPTANCES[name](target_probs, draft_probs, num_draws) for name in names]
    for better, worse in itertools.pairwise(falling):
        assert (better - worse).min() >= -1e-12
    for name in ("naive-tree", "specinfer", "spectr"):
        once, naive = (ACCEPTANCES[of](target_probs, draft_probs, 1) for of in (name, "naive"))
        torch.testing.assert_close(once, naive, **EXACT)


def test_spectr_stays_within_its_bound_of_the_optimum():
    """At least 1 - 1/e of it (arXiv:2310.15141, theorem 3)."""
    generator = torch.Generator().manual_seed(3)
    target_probs, draft_probs = (random_rows(5000, 6, sharpness=4.0, generator=generator) for _ in range(2))
    for num_draws in (2, 4, 8):
        reached = ACCEPTANCES["spectr"](target_probs, draft_probs, num_draws)
        assert (reached / acceptance_ceiling(target_probs, draft_probs, num_draws)).min() >= 0.632


def test_equal_rows_are_always_accepted_and_disjoint_ones_never():
    row, other = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.3, 0.7]], dtype=torch.float64)
    for name in ("naive", "naive-tree", "specinfer", "spectr"):
        for num_draws in (1, 2, 3):
            assert float(ACCEPTANCES[name](row, row, num_draws)) == pytest.approx(1.0, abs=1e-12)
            assert float(ACCEPTANCES[name](row, other, num_draws)) == 0.0
