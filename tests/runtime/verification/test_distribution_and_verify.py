"""`verify` samples from `distribution`: counted over many steps, on one drafted tree."""

from dataclasses import replace

import drawn
import numpy as np
import pytest
import torch
from scipy.stats import power_divergence
from treewright.controller.contract import VERIFIERS
from treewright.controller.errors import InputError
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.verification import get_verifier

VOCABULARY_SIZE = 3
NUM_STEPS = 1500
# A sound verifier falls below this once in ten thousand seeds; the seeds here are fixed.
LEAST_P_VALUE = 1e-4
TREES = {
    "iid-paths": drawn.tree_of_paths([(0, 1), (2, 1), (0, 0), (0, 1)]),
    "trunk": drawn.tree_of_paths([(1, 0, 1), (1, 2, 2)], trunk=1),
    "without-replacement": drawn.tree_of_prefixes([(), (2,), (0,), (2, 1), (2, 0), (0, 2)]),
    "hybrid": replace(
        drawn.tree_of_prefixes([(), (0,), (1,), (0, 2), (0, 1), (1, 1), (0, 2, 0)]), paths=np.array([[[1, 3]]])
    ),
    "greedy-plus-one": replace(
        drawn.tree_of_prefixes([(), (0,), (1,), (0, 2), (0, 1)]), paths=np.array([[[2, -1], [-1, 4]]])
    ),
}


def rows_of(tree, seed=13):
    """Target rows of every node and draft rows of the inner ones; greedy-plus-one leaves out its certain tokens."""
    generator = np.random.default_rng(seed)
    count = tree.tokens.shape[1]
    target_rows, draft_rows = (drawn.random_rows(generator, count, VOCABULARY_SIZE) for _ in range(2))
    if tree is TREES["greedy-plus-one"]:
        for node, certain in ((0, 0), (1, 2)):
            draft_rows[node, certain] = 0.0
            draft_rows[node] /= draft_rows[node].sum()
    return target_rows, drawn.inner_rows(tree, draft_rows)


def counts_of(verifier, tree, target_rows, draft_rows, num_steps=NUM_STEPS):
    """[N, V] how often each end was reached, over steps from different roots."""
    sampler = drawn.sampler_of(VOCABULARY_SIZE)
    counts = np.zeros(tuple(target_rows.shape))
    for position in range(num_steps):
        verdict = verifier.verify(tree, target_rows.log()[None], draft_rows, sampler, np.array([position]))
        path = verdict.path[0][verdict.path[0] >= 0]
        counts[path[-1] if len(path) else 0, verdict.next_tokens[0]] += 1
    return counts


def tree_for(terms):
    return TREES[next(scheme for scheme in ("iid-paths", "hybrid", "greedy-plus-one") if scheme in terms.schemes)]


@pytest.mark.parametrize(
    ("name", "tree"),
    [(name, tree_for(terms)) for name, terms in VERIFIERS.items()]
    + [("traversal", TREES["trunk"]), ("traversal", TREES["without-replacement"])],
)
def test_verify_reaches_every_end_as_often_as_the_distribution_says(name, tree):
    target_rows, draft_rows = rows_of(tree)
    verifier = get_verifier(name)
    num_steps = 200 if name == "khisti" else NUM_STEPS  # its linear programmes take milliseconds
    joint = verifier.distribution(tree, target_rows, draft_rows).joint.numpy()
    assert joint.sum() == pytest.approx(1.0, abs=1e-12)
    assert (joint > 1e-9).any(axis=1).sum() > 1  # else the count is no test
    counts = counts_of(verifier, tree, target_rows, draft_rows, num_steps)
    possible = joint > 1e-9
    assert counts[~possible].sum() == 0
    assert power_divergence(counts[possible], joint[possible] * num_steps).pvalue > LEAST_P_VALUE


@pytest.mark.parametrize("name", ["traversal", "specinfer"])
def test_the_count_would_show_another_scheme(name):
    tree = TREES["iid-paths"]
    joint = get_verifier(name).distribution(tree, *rows_of(tree)).joint.numpy()
    counts = counts_of(get_verifier("block"), tree, *rows_of(tree))
    possible = (joint > 1e-9) | (counts > 0)
    expected = np.maximum(joint, 1e-9)[possible]
    expected = expected / expected.sum() * NUM_STEPS
    assert power_divergence(counts[possible], expected).pvalue < LEAST_P_VALUE


@pytest.mark.parametrize("name", ["naive", "specinfer", "rrsw", "spectr", "khisti", "block", "traversal"])
def test_a_text_does_not_notice_its_neighbours_in_the_batch(name):
    tree = TREES["iid-paths"]
    target_rows, draft_rows = rows_of(tree)
    rows = torch.stack((target_rows.log(), target_rows.flip(0).log()))
    samplings = [Sampling(seed=4), Sampling(0.5, top_p=0.9, seed=5)]
    both = drawn.stack(tree, tree)
    sampler = TokenSampler(samplings, VOCABULARY_SIZE, torch.device("cpu"))
    together = get_verifier(name).verify(both, rows, draft_rows * 2, sampler, np.array([6, 7]))
    for slot, position in ((0, 6), (1, 7)):
        alone = TokenSampler(samplings[slot : slot + 1], VOCABULARY_SIZE, torch.device("cpu"))
        verdict = get_verifier(name).verify(tree, rows[slot : slot + 1], draft_rows, alone, np.array([position]))
        assert verdict.path[0].tolist() == together.path[slot].tolist()
        assert verdict.next_tokens[0] == together.next_tokens[slot]


@pytest.mark.parametrize("name", ["naive", "naive-tree", "specinfer", "rrsw", "spectr", "khisti", "block", "traversal"])
def test_a_greedy_text_takes_the_targets_best_token(name):
    tree = TREES["trunk"]
    target_rows, draft_rows = rows_of(tree)
    sampler = TokenSampler([Sampling(0.0)], VOCABULARY_SIZE, torch.device("cpu"))
    for position in range(20):
        verdict = get_verifier(name).verify(tree, target_rows.log()[None], draft_rows, sampler, np.array([position]))
        node = 0
        for accepted in verdict.path[0][verdict.path[0] >= 0]:
            assert tree.tokens[0, accepted] == target_rows[node].argmax()
            node = int(accepted)
        assert verdict.next_tokens[0] == target_rows[node].argmax()


@pytest.mark.parametrize("name", ["naive", "naive-tree", "specinfer", "rrsw", "spectr", "khisti", "block", "traversal"])
def test_a_refusal_that_only_rounding_allows_is_none(name):
    """Equal rows but for the last bit leave no residual; nothing else may be emitted instead."""
    tree = drawn.tree_of_paths([(0, 1)])
    target_rows = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]])
    draft_rows = [{node: torch.tensor([0.5, 0.5]).nextafter(torch.ones(2)).log() for node in (0, 1)}]
    scheme = get_verifier(name).distribution(tree, target_rows, draft_rows)
    assert scheme.stop.tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)
    assert (scheme.joint[2] / scheme.stop[2]).tolist() == pytest.approx([0.25, 0.75], abs=1e-7)


def test_the_rows_are_left_as_they_were():
    for name, terms in VERIFIERS.items():
        tree = tree_for(terms)
        target_rows, draft_rows = rows_of(tree)
        get_verifier(name).distribution(tree, target_rows, draft_rows)
        again = rows_of(tree)
        assert torch.equal(target_rows, again[0]), name
        assert all(torch.equal(row, again[1][0][node]) for node, row in draft_rows[0].items()), name


def test_block_efficiency_of_the_walk_is_one_plus_the_path_probabilities():
    tree = TREES["without-replacement"]
    target_rows, _ = rows_of(tree)
    edges = np.zeros((1, 6))
    edges[0, 1:] = target_rows.numpy()[tree.parents[0, 1:], tree.tokens[0, 1:]]
    stop = get_verifier("walk").distribution(tree, target_rows, ()).stop
    expected = np.exp(tree.path_sums(np.log(edges, where=edges > 0, out=np.zeros_like(edges)))).sum()
    assert 1 + (stop.numpy() * tree.depths[0]).sum() == pytest.approx(expected, abs=1e-12)


def test_an_unknown_verifier_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="there are traversal, traversal-unmerged, spectr"):
        get_verifier("optimal")


def test_every_verifier_of_the_table_is_there_under_its_own_terms():
    assert {name: get_verifier(name).terms for name in VERIFIERS} == VERIFIERS
