"""One draw, accepted or refused, where the number format holds no more than one token's probability."""

import drawn
import numpy as np
import pytest
import torch
from closed_forms import naive_branching, specinfer_branching, spectr_branching
from treewright.runtime.verification.acceptance import expected_tries
from treewright.runtime.verification.coins import Coins
from treewright.runtime.verification.rejection import acceptance, residual, weighted_residual
from treewright.runtime.verification.sampled_tree import single_tree

SURE = torch.tensor([0.0, 1.0, 0.0])


def test_a_token_that_the_target_cannot_generate_is_never_accepted():
    assert acceptance(SURE, torch.tensor([1.0, 0.0, 0.0]), 2) == 0.0
    assert acceptance(SURE, torch.tensor([0.5, 0.0, 0.5]), 2) == 0.0
    assert acceptance(SURE, torch.tensor([0.5, 0.0, 0.5]), 1, weight=0.0) == 0.0


def test_a_token_is_accepted_with_the_ratio_of_its_probabilities():
    target_probs, draft_probs = torch.tensor([0.25, 0.75]).double(), torch.tensor([0.5, 0.5]).double()
    assert acceptance(target_probs, draft_probs, 0) == 0.5
    assert acceptance(target_probs, draft_probs, 1) == 1.0
    assert acceptance(target_probs, draft_probs, 1, weight=0.5) == 0.75


def test_where_rounding_leaves_no_residual_the_targets_row_stays():
    """The draft row's tail is below the rounding of its first entry: both add up to 1."""
    draft_probs = torch.tensor([1e-9, 1.0, 1e-9])
    assert torch.equal(residual(SURE, draft_probs), SURE)
    assert weighted_residual(1.0, SURE, draft_probs) == (1.0, SURE)
    assert weighted_residual(0.5, SURE, draft_probs)[0] == 0.0


def test_a_residual_below_the_normal_numbers_is_scaled_up():
    assert residual(torch.tensor([1.0, 1e-42]), torch.tensor([1.0, 0.0])).tolist() == [0.0, 1.0]


def test_what_earlier_draws_leave_of_a_row_keeps_its_ratios():
    tree = drawn.tree_of_prefixes([(), (0,), (1,), (2,)])
    logits = torch.tensor([0.0, -1000.0, -1000.0 + np.log(3.0), -2000.0])
    view = single_tree(tree, torch.zeros(4, 4), [{0: logits.log_softmax(-1)}])
    assert view.draft_probs(0).tolist() == [1.0, 0.0, 0.0, 0.0]
    # The spacing of float32 numbers near 1000 is 6e-5.
    assert view.draft_probs(0, without=[1]).tolist() == pytest.approx([0.0, 0.25, 0.75, 0.0], abs=1e-4)
    assert view.draft_probs(0, without=[1, 2]).tolist() == [0.0, 0.0, 1.0, 0.0]
    assert view.draft_probs(0, without=[1, 3, 2]).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("branching", [naive_branching, specinfer_branching, spectr_branching])
def test_closed_forms_given_a_draw_are_the_targets_where_rounding_leaves_no_residual(branching):
    """The first draft row cannot hold what it was drawn with, the second one only just."""
    for draft_probs in (torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1e-9, 1.0, 1e-9])):
        assert branching(SURE, draft_probs, torch.tensor([2, 0])).tolist() == SURE.tolist()


def test_the_expected_number_of_tries_keeps_its_digits():
    betas = torch.tensor([0.0, 1e-12, 0.25, 1.0])
    tries = [4.0, 4.0, 1 + 0.75 + 0.75**2 + 0.75**3, 1.0]
    assert expected_tries(betas, 4).tolist() == tries
    assert expected_tries(betas, 1).tolist() == [1.0] * 4


def test_coins_draw_no_token_without_probability():
    coins = Coins(drawn.sampler_of(4).step_noise(0, 0))
    drawn_tokens = {coins.draw(torch.tensor([0.0, 1e-45, 0.0, 1e-45])) for _ in range(40)}
    assert drawn_tokens == {1, 3}
    assert {coins.draw(torch.tensor([0.0, 1.0, 0.0, 1e-30])) for _ in range(40)} == {1}
    with pytest.raises(AssertionError, match="no token has any probability"):
        coins.draw(torch.zeros(4))
