"""Sequoia's dynamic programme against the enumeration of all trees."""

from functools import cache

import numpy as np
import plans
import pytest
from treewright.controller.policies.sequoia import best_tree, best_values, cheapest_tree, level_widths, static_selector

# The second is out of order, as a measured vector may be.
VECTORS = [(0.5, 0.3), (0.3, 0.5), (0.6, 0.05, 0.2)]
DEPTH, NODES = 3, 5


@cache
def all_trees(width):
    """Every set of at most NODES paths that holds each path's parent."""
    trees, grown = {frozenset()}, {frozenset()}
    for _ in range(NODES):
        grown = {
            tree | {(*above, rank)}
            for tree in grown
            for above in (*tree, ())
            if len(above) < DEPTH
            for rank in range(width)
        } - trees
        trees |= grown
    return trees


def expected_length(paths, probs):
    return sum(np.prod([probs[rank] for rank in path]) for path in paths)


@pytest.mark.parametrize("probs", VECTORS)
def test_the_programme_finds_the_best_of_all_trees(probs):
    values = best_values(np.array(probs), DEPTH, NODES)
    for depth in range(1, DEPTH + 1):
        for nodes in range(1, NODES + 1):
            trees = [tree for tree in all_trees(len(probs)) if len(tree) == nodes and max(map(len, tree)) <= depth]
            if not trees:
                assert values[depth, 0, nodes] == -np.inf
                continue
            best = max(expected_length(tree, probs) for tree in trees)
            assert values[depth, 0, nodes] == pytest.approx(best, rel=1e-12)
            paths = best_tree(values, np.array(probs), depth, nodes)
            assert frozenset(paths) in trees and expected_length(paths, probs) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("probs", VECTORS)
def test_the_cheapest_tree_has_the_least_price_per_token_over_sizes_and_depths(probs):
    def ms_per_token(paths):
        return plans.TABLE.step_ms(level_widths(paths), len(paths), batch=1, context=0) / (
            1 + expected_length(paths, probs)
        )

    # Among trees of one size and depth the programme knows the best by expected length, so only those are priced.
    chosen = cheapest_tree(probs, plans.TABLE, max_depth=DEPTH, sizes=range(1, NODES + 1))
    values = best_values(np.array(probs), DEPTH, NODES)
    rivals = [
        best_tree(values, np.array(probs), depth, nodes)
        for depth in range(1, DEPTH + 1)
        for nodes in range(1, NODES + 1)
        if np.isfinite(values[depth, 0, nodes])
    ]
    assert ms_per_token(chosen) == min(map(ms_per_token, rivals))


def test_a_size_beyond_the_levels_is_the_largest_that_fits():
    assert cheapest_tree((0.5, 0.2), plans.TABLE, max_depth=2, sizes=[50]) == [
        (0,),
        (1,),
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_a_static_policy_drafts_as_wide_as_its_tree():
    selector = static_selector([(0,), (1,), (2,), (0, 0), (2, 0), (2, 0, 1)])
    assert level_widths([(0,), (1,), (2,), (0, 0), (2, 0), (2, 0, 1)]) == [1, 2, 1]
    assert (selector.limits.max_depth, selector.limits.width, selector.limits.frontier) == (3, 3, 2)
