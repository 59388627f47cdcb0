"""Block efficiency from texts alone against sums over all drafted trees, on language models that are tables."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from closed_forms import naive_branching, specinfer_branching, spectr_branching
from tables import TableModel, draws
from treewright.runtime.verification.rollouts import MULTIPLICITIES, token_ratios, transfer_matrices
from treewright.train.shapes.survival import block_survival, delayed_survival, naive_survival, tree_survival

BRANCHINGS = {
    "naive-tree": naive_branching,
    "specinfer": specinfer_branching,
    "spectr": spectr_branching,
}


def expected_accepted(branching, target, drafter, paths, prefix=()):
    """Sum over the nodes of a tree of paths of the chance that the verifier comes through: path products."""
    paths = [path for path in paths if path]
    if not paths:
        return 0.0
    scheme = branching(target(prefix), drafter(prefix), torch.tensor([path[0] for path in paths]))
    total = 0.0
    for token in {path[0] for path in paths}:
        below = [path[1:] for path in paths if path[0] == token]
        total += float(scheme[token]) * (1 + expected_accepted(branching, target, drafter, below, (*prefix, token)))
    return total


def tree_mean(name, target, drafter, num_paths, trunk_length, branch_length):
    """The mean of that over every tree the drafter may draw."""
    total = 0.0
    for trunk, trunk_weight in draws(drafter, (), trunk_length):
        branches = list(draws(drafter, trunk, branch_length))
        for chosen in itertools.product(branches, repeat=num_paths):
            weight = trunk_weight
            for _, prob in chosen:
                weight *= prob
            total += weight * delayed_tree(name, target, drafter, trunk, [path for path, _ in chosen])
    return total


def delayed_tree(name, target, drafter, trunk, branches, depth=0):
    """A trunk draws once at each node, its end once per branch."""
    if depth == len(trunk):
        return expected_accepted(BRANCHINGS[name], target, drafter, branches, trunk)
    prefix = trunk[:depth]
    scheme = BRANCHINGS[name](target(prefix), drafter(prefix), torch.tensor(trunk[depth : depth + 1]))
    return float(scheme[trunk[depth]]) * (1 + delayed_tree(name, target, drafter, trunk, branches, depth + 1))


def texts(target, drafter, length):
    """Every text with its probability, and its rows [length, V] of both models."""
    for text, weight in draws(target, (), length):
        rows = [torch.stack([model(text[:index]) for index in range(length)]) for model in (target, drafter)]
        yield weight, *rows, torch.tensor(text)


def rollout_mean(name, target, drafter, num_paths, trunk_length, branch_length):
    total = 0.0
    for weight, target_probs, draft_probs, tokens in texts(target, drafter, trunk_length + branch_length):
        matrices = transfer_matrices(MULTIPLICITIES[name], target_probs, draft_probs, tokens, num_paths).numpy()
        chains = tree_survival(matrices, 1, max(1, trunk_length))
        trees = tree_survival(matrices, num_paths, branch_length)
        survival = delayed_survival(chains, trees, trunk_length, branch_length)[0]
        assert (survival >= 0).all() and (survival <= 1 + 1e-12).all()
        total += weight * float(survival.sum())
    return total


@pytest.mark.parametrize("shape", [(2, 0, 2), (2, 1, 2), (3, 0, 2), (3, 1, 1), (1, 0, 3)], ids=str)
@pytest.mark.parametrize("name", MULTIPLICITIES)
def test_texts_of_the_target_give_the_mean_over_all_drafted_trees(name, shape):
    target, drafter = TableModel(1, 3), TableModel(2, 3, num_zeros=1)
    assert rollout_mean(name, target, drafter, *shape) == pytest.approx(
        tree_mean(name, target, drafter, *shape), abs=1e-12
    )


@pytest.mark.parametrize("name", ["naive-tree", "specinfer", "spectr"])
def test_a_chain_survives_by_the_product_of_the_capped_ratios(name):
    for _, target_probs, draft_probs, tokens in texts(TableModel(1, 3), TableModel(2, 3), 3):
        matrices = transfer_matrices(MULTIPLICITIES[name], target_probs, draft_probs, tokens, 2).numpy()
        ratios = (draft_probs / target_probs).gather(1, tokens[:, None])[:, 0].clamp_max(1.0)
        np.testing.assert_allclose(tree_survival(matrices, 1, 3)[0], ratios.cumprod(0), rtol=0, atol=1e-12)
        naive = naive_survival(token_ratios(target_probs, draft_probs, tokens).numpy(), 3)
        np.testing.assert_allclose(naive[0], ratios.cumprod(0), rtol=0, atol=1e-12)


def test_shapes_deeper_than_the_rest_of_the_text_are_unknown():
    _, target_probs, draft_probs, tokens = next(texts(TableModel(1, 3), TableModel(2, 3), 4))
    matrices = transfer_matrices(MULTIPLICITIES["specinfer"], target_probs, draft_probs, tokens, 2).numpy()
    survival = delayed_survival(tree_survival(matrices, 1, 3), tree_survival(matrices, 2, 3), 1, 3)
    assert np.isfinite(survival).sum(axis=1).tolist() == [4, 3, 2, 1]
    blocks = block_survival(token_ratios(target_probs, draft_probs, tokens).numpy(), 3)
    assert np.isfinite(blocks).sum(axis=1).tolist() == [3, 3, 2, 1]


def block_efficiency(target, drafter, length):
    """Of block verification: sum over all drafts of the chances of its tests, last one first (arXiv:2403.10444)."""
    total = 0.0
    for draft, weight in draws(drafter, (), length):
        kept, refused = 1.0, 1.0
        tests = []
        for index, token in enumerate(draft):
            target_row, draft_row = target(draft[:index]), drafter(draft[:index])
            kept = min(1.0, kept * float(target_row[token] / draft_row[token]))
            tests.append(kept)
        for index in range(length, 0, -1):
            kept = tests[index - 1]
            if index < length:
                excess = (kept * target(draft[:index]) - drafter(draft[:index])).clamp_min(0.0).sum()
                kept = 1.0 if kept == 1.0 and excess == 0 else float(excess / (excess + 1.0 - kept))
            total += weight * refused * kept * index
            refused *= 1.0 - kept
    return 1.0 + total


def test_block_verification_survives_by_the_least_product_of_ratios():
    for seed in range(3):
        target, drafter = TableModel(seed, 3), TableModel(seed + 10, 3)
        mean = sum(
            weight * float(block_survival(token_ratios(target_probs, draft_probs, tokens).numpy(), 3)[0].sum())
            for weight, target_probs, draft_probs, tokens in texts(target, drafter, 3)
        )
        assert 1.0 + mean == pytest.approx(block_efficiency(target, drafter, 3), abs=1e-12)


def test_the_two_token_example_of_block_verification():
    """Target (1/3, 2/3), drafter (2/3, 1/3), two drafted tokens: 10/9 accepted by naive, 11/9 by blocks."""

    def constant(*row):
        return cache(lambda prefix: torch.tensor(row, dtype=torch.float64))

    target, drafter = constant(1 / 3, 2 / 3), constant(2 / 3, 1 / 3)
    accepted = dict.fromkeys(("naive", "block"), 0.0)
    for weight, target_probs, draft_probs, tokens in texts(target, drafter, 2):
        ratios = token_ratios(target_probs, draft_probs, tokens).numpy()
        accepted["naive"] += weight * float(naive_survival(ratios, 2)[0].sum())
        accepted["block"] += weight * float(block_survival(ratios, 2)[0].sum())
    assert accepted["naive"] == pytest.approx(10 / 9, abs=1e-12)
    assert accepted["block"] == pytest.approx(11 / 9, abs=1e-12)
