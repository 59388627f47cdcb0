"""Labels from drafted trees against the exact mean over all trees, and closed forms against the verifiers' own
distribution."""

import itertools

import drawn
import pytest
import torch
from closed_forms import (
    greedy_plus_one_branching,
    naive_branching,
    specinfer_branching,
    spectr_branching,
    walk_branching,
)
from tables import TableModel, draws
from treewright.runtime.verification import get_verifier
from treewright.runtime.verification.sampled_tree import single_tree
from treewright.runtime.verification.tree_estimates import first_paths, traversal_chances

BRANCHINGS = {
    "walk": walk_branching,
    "naive": naive_branching,
    "naive-tree": naive_branching,
    "specinfer": specinfer_branching,
    "spectr": spectr_branching,
}
TARGET, DRAFTER = TableModel(1, 3), TableModel(2, 3, num_zeros=1)


def drafted_trees(num_paths, trunk_length, branch_length):
    """Every delayed tree with its probability, and with the target's rows [N, V] and its draft rows."""
    for trunk, trunk_weight in draws(DRAFTER, (), trunk_length):
        branches = list(draws(DRAFTER, trunk, branch_length))
        for chosen in itertools.product(branches, repeat=num_paths):
            weight = trunk_weight
            for _, prob in chosen:
                weight *= prob
            tree = drawn.tree_of_paths([trunk + path for path, _ in chosen], trunk_length)
            prefixes: list[tuple[int, ...]] = [()]
            for node in range(1, int(tree.num_nodes[0])):
                prefixes.append((*prefixes[tree.parents[0, node]], int(tree.tokens[0, node])))
            target_rows, draft_rows = (
                torch.stack([model(prefix) for prefix in prefixes]) for model in (TARGET, DRAFTER)
            )
            yield weight, tree, (target_rows, drawn.inner_rows(tree, draft_rows))


def drafted_efficiency(distribution, depths):
    """What the verification of one tree commits in expectation."""
    return 1.0 + float((distribution.stop * torch.from_numpy(depths)).sum())


def mean_efficiency(verifier, shape):
    """By the verifier's own scheme, over all trees."""
    return sum(
        weight * drafted_efficiency(get_verifier(verifier).distribution(tree, *rows), tree.depths[0])
        for weight, tree, rows in drafted_trees(*shape)
    )


@pytest.mark.parametrize("trunk_length", [0, 1])
def test_one_tree_labels_every_smaller_one_under_traversal(trunk_length):
    most_paths, most_branch = 3, 2 - trunk_length
    sums = dict.fromkeys(itertools.product(range(1, most_paths + 1), range(1, most_branch + 1)), 1.0)
    for weight, tree, rows in drafted_trees(most_paths, trunk_length, most_branch):
        chances = traversal_chances(single_tree(tree, *rows))
        assert tree.paths is not None
        first = first_paths(single_tree(tree, *rows), tree.paths[0])
        for num_paths, branch in sums:
            for node in range(1, int(tree.num_nodes[0])):
                if first[node] < num_paths and tree.depths[0, node] <= trunk_length + branch:
                    sums[num_paths, branch] += weight * chances[node]
    for (num_paths, branch), mean in sums.items():
        shape = (num_paths, trunk_length, branch)
        assert mean == pytest.approx(mean_efficiency("traversal", shape), abs=1e-12), shape


def test_a_chain_of_traversal_chances_is_block_verification():
    mean = sum(
        weight * sum(traversal_chances(single_tree(tree, *rows))) for weight, tree, rows in drafted_trees(1, 3, 0)
    )
    assert mean == pytest.approx(mean_efficiency("block", (1, 3, 0)), abs=1e-12)


@pytest.mark.parametrize("name", BRANCHINGS)
def test_branching_is_what_the_verifier_does_to_one_node(name):
    for weight, tree, (target_rows, draft_rows) in drafted_trees(3, 0, 1):
        scheme = get_verifier(name).distribution(tree, target_rows, draft_rows)
        assert tree.paths is not None
        tokens = torch.from_numpy(tree.tokens[0, tree.paths[0, :, 0]])
        emitted = scheme.joint[0].clone()
        for child in range(1, int(tree.num_nodes[0])):
            emitted[tree.tokens[0, child]] += scheme.stop[child]
        expected = BRANCHINGS[name](target_rows[0], draft_rows[0][0].exp(), tokens)
        tolerance = 1e-8 if name == "spectr" else 1e-12
        torch.testing.assert_close(emitted, expected, rtol=0, atol=tolerance)
        assert weight > 0


def test_greedy_plus_one_branching_is_what_its_verifier_does_to_one_node():
    target_probs, draft_probs = TARGET(()), TableModel(7, 3)(())
    best = int(draft_probs.argmax())
    own_scheme = draft_probs.clone()
    own_scheme[best] = 0.0
    own_scheme /= own_scheme.sum()
    for token in {0, 1, 2} - {best}:
        tree = drawn.tree_of_prefixes([(), (token,), (best,)])
        target_rows = torch.stack((target_probs, TARGET((token,)), TARGET((best,))))
        scheme = get_verifier("greedy-plus-one").distribution(tree, target_rows, [{0: own_scheme.log()}])
        emitted = scheme.joint[0].clone()
        emitted[[token, best]] += scheme.stop[1:]
        expected = greedy_plus_one_branching(target_probs, draft_probs, torch.tensor([best, token]))
        torch.testing.assert_close(emitted, expected, rtol=0, atol=1e-12)
