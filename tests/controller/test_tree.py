"""Padded batches of trees, against the ten-line loops they replace."""

import drawn
import numpy as np
import pytest
from trees import random_children, random_tree


def path_of(tree, row, node):
    """Nodes from the root (left out) to `node`, by following parents."""
    path = []
    while node > 0:
        path.append(node)
        node = int(tree.parents[row, node])
    return path[::-1]


@pytest.fixture
def tree():
    return random_tree(np.random.default_rng(0), batch=3, levels=4)


def test_parents_precede_their_children(tree):
    nodes = np.arange(tree.tokens.shape[1])
    assert (tree.parents < np.maximum(nodes, 1))[tree.valid].all()
    assert (tree.parents[:, 0] == -1).all()


def test_a_child_is_one_deeper_than_its_parent(tree):
    rows, nodes = np.nonzero(tree.valid & (tree.parents >= 0))
    assert (tree.depths[rows, nodes] == tree.depths[rows, tree.parents[rows, nodes]] + 1).all()


def test_path_sums_add_up_along_each_path(tree):
    sums = tree.path_sums(tree.log_probs)
    for row, count in enumerate(tree.num_nodes):
        for node in range(count):
            expected = sum(float(tree.log_probs[row, step]) for step in path_of(tree, row, node))
            assert sums[row, node] == pytest.approx(expected, rel=1e-6)
        assert np.isneginf(sums[row, count:]).all()


def test_the_path_columns_hold_the_path_sums(tree):
    expected = tree.path_sums(tree.log_probs)[tree.valid]
    np.testing.assert_allclose(tree.path_log_probs[tree.valid], expected, rtol=1e-5)


def test_a_child_never_exceeds_its_parent_through_rounding(tree):
    sums = tree.path_sums(np.full(tree.tokens.shape, -1e-17))
    rows, nodes = np.nonzero(tree.valid & (tree.parents >= 0))
    assert (sums[rows, nodes] <= sums[rows, tree.parents[rows, nodes]]).all()


def test_a_subtree_keeps_tokens_and_paths(tree):
    rows = range(len(tree.tokens))
    kept = [sorted({0, *path_of(tree, row, int(tree.num_nodes[row]) - 1)}) for row in rows]
    nodes = np.full((len(kept), max(map(len, kept))), -1)
    for row, chosen in enumerate(kept):
        nodes[row, : len(chosen)] = chosen
    subtree = tree.subtree(nodes)
    for row, chosen in enumerate(kept):
        assert subtree.tokens[row, : len(chosen)].tolist() == tree.tokens[row, chosen].tolist()
        assert subtree.parents[row, : len(chosen)].tolist() == list(range(-1, len(chosen) - 1))
    assert subtree.num_nodes.tolist() == [len(chosen) for chosen in kept]


def test_a_subtree_without_a_parent_is_refused(tree):
    orphan = int(np.nonzero(tree.depths[0] == 2)[0][0])
    with pytest.raises(AssertionError, match="parent-closed"):
        tree.subtree(np.array([[0, orphan]] * len(tree.tokens)))


def test_a_candidate_that_sampling_cut_is_never_drafted():
    tree = random_tree(np.random.default_rng(1), batch=1, levels=1, cut=1)
    assert tree.num_nodes.tolist() == [3]  # a root and two of three children


def test_the_paths_of_a_sampled_tree_follow_its_nodes():
    whole = drawn.tree_of_paths([(5, 1), (5, 2), (7, 1)])
    assert whole.paths is not None
    assert whole.paths.tolist() == [[[1, 2], [1, 3], [4, 5]]]
    child = random_children(np.random.default_rng(0), 1, 1, width=1)
    assert whole.extend(np.array([[3]]), child).paths is whole.paths
    smaller = whole.subtree(np.array([[0, 1, 3, 4]]))
    assert smaller.paths is not None
    assert smaller.paths.tolist() == [[[1, -1], [1, 2], [3, -1]]]
