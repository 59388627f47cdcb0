"""Shapes of sampled trees: who draws where, whatever was drawn."""

from dataclasses import replace

import numpy as np
import pytest
import trees
from treewright.controller.contract import (
    HYBRID,
    IID_PATHS,
    SAMPLED_SCHEMES,
    VERIFIERS,
    WITHOUT_REPLACEMENT,
    unsound_reason,
)
from treewright.controller.errors import InputError
from treewright.controller.plans.grids import NUM_TRIALS
from treewright.controller.plans.sampled_grids import verifier_grids
from treewright.controller.policies.delayed import delayed_tree, sampled_shape, trunk_with_sides
from treewright.controller.trees.children import Children
from treewright.controller.trees.tree import DraftTree


def frontiers(policy, context):
    """The frontier of every level, each entry of which brings a node of its own."""
    tree, asked, token = DraftTree.from_roots(np.zeros(len(context.positions), dtype=np.int64)), [], 1
    step = policy.begin(context)
    while (frontier := step.frontier(tree)).shape[1]:
        asked.append(frontier.tolist())
        tokens = np.broadcast_to(np.arange(token, token + frontier.shape[1]), frontier.shape)[:, :, None]
        zeros = np.zeros(tokens.shape, dtype=np.float32)
        tree = tree.extend(frontier, Children(tokens, zeros, zeros, zeros[:, :, 0], zeros[:, :, 0]))
        token += frontier.shape[1]
    return asked


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (delayed_tree(3, 1, 2), [[0], [1, 1, 1], [2, 3, 4]]),
        (delayed_tree(2, 0, 2), [[0, 0], [1, 2]]),
        (delayed_tree(4, 2, 0), [[0], [1]]),
        (trunk_with_sides(3, 1), [[0, 0], [1, 1], [3, 3]]),
    ],
    ids=["trunk and branches", "branches", "trunk", "sides"],
)
def test_a_node_is_in_the_frontier_once_per_child(policy, expected):
    assert frontiers(policy, trees.context()) == [[level] for level in expected]


def test_branches_follow_their_paths():
    tree = DraftTree.from_roots(np.array([0]))
    children = np.zeros((1, 2, 1), dtype=np.float32)
    drawn = Children(np.array([[[7], [8]]]), children, children, children[:, :, 0], children[:, :, 0])
    tree = replace(tree.extend(np.array([[0, 0]]), drawn), paths=np.array([[[1], [2], [1]]]))
    assert delayed_tree(3, 0, 2).begin(trees.context()).frontier(tree).tolist() == [[1, 2, 1]]


def test_each_text_drafts_no_deeper_than_its_remaining_tokens():
    context = replace(trees.context(batch=3), remaining=np.array([3, 1, 50]))
    asked = frontiers(delayed_tree(2, 1, 2), context)
    assert asked == [[[0], [-1], [0]], [[1, 1], [-1, -1], [1, 1]], [[-1, -1], [-1, -1], [2, 3]]]


@pytest.mark.parametrize("shape", [(0, 1, 1), (65, 0, 1), (1, 0, 0), (2, -1, 2), (2, 8, 9)])
def test_shapes_out_of_range_are_refused(shape):
    with pytest.raises(InputError, match="1 to 64 paths"):
        delayed_tree(*shape)


def test_a_hybrid_shape_has_no_branches():
    assert sampled_shape(HYBRID, 3, 4, 0) == trunk_with_sides(4, 2)
    with pytest.raises(InputError, match=r"use \[3, 4, 0\]"):
        sampled_shape(HYBRID, 3, 2, 2)


def test_every_verifier_is_compared_and_every_plan_is_sound():
    grids = verifier_grids()
    assert {name for name, _ in grids} == VERIFIERS.keys() - {"hybrid-traversal"}
    assert ("traversal", WITHOUT_REPLACEMENT.name) in grids and ("specinfer", IID_PATHS.name) in grids
    for (verifier, scheme), plans in grids.items():
        assert len(plans) == NUM_TRIALS == len({plan.text for plan in plans})
        for plan in plans:
            assert unsound_reason(SAMPLED_SCHEMES[scheme], plan.build().information, VERIFIERS[verifier]) is None
