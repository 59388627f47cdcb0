"""One contract for every scorer, on a lone root, a chain and bushy batches."""

import numpy as np
import pytest
from trees import context, random_tree
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.selector import Selector, TreeLimits
from treewright.controller.shapes import chain
from treewright.controller.tree import DraftTree

SCORERS = {
    "confidence": ConfidenceScorer(),
    "rank table": RankScorer(np.log([[0.6, 0.2, 0.1], [0.5, 0.2, 0.1], [0.4, 0.2, 0.1]])),
    "static paths": RankScorer.from_paths([(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]),
}
TREES = {
    "lone roots": DraftTree.from_roots(np.array([3, 4])),
    "chains": random_tree(np.random.default_rng(0), batch=2, levels=3, width=1),
    "bushy": random_tree(np.random.default_rng(1), batch=2, levels=3),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
class TestEveryScorer:
    def test_scores_are_log_probabilities(self, scorer, tree):
        scores = scorer.score(tree, context(2))
        assert scores.shape == tree.tokens.shape
        assert (scores[tree.valid] <= 0).all()

    def test_coverage_has_one_entry_per_node_and_rank(self, scorer, tree):
        coverage = scorer.coverage(tree, context(2))
        assert coverage.shape[:2] == tree.tokens.shape
        assert (coverage <= 0).all()

    def test_the_answer_is_the_same_twice(self, scorer, tree):
        np.testing.assert_array_equal(scorer.score(tree, context(2)), scorer.score(tree, context(2)))

    @pytest.mark.parametrize("budget", [0, 1, 3, 50])
    def test_the_kept_tree_is_closed_within_budget_and_has_the_root(self, scorer, tree, budget):
        kept = Selector(scorer, TreeLimits(budget=budget)).keep(tree, context(2))
        assert (kept[:, 0] == 0).all()
        assert kept.shape[1] <= budget + 1
        tree.subtree(kept)  # asserts that every parent is kept

    def test_the_frontier_holds_nodes_of_the_last_level(self, scorer, tree):
        frontier = Selector(scorer, TreeLimits()).frontier(tree, context(2))
        rows, order = np.nonzero(frontier >= 0)
        assert (tree.depths[rows, frontier[rows, order]] == tree.depths.max()).all()


def test_a_rank_table_scores_by_depth_and_rank():
    tree = TREES["bushy"]
    scores = SCORERS["rank table"].score(tree, context(2))
    node = int(np.nonzero((tree.depths[0] == 2) & (tree.ranks[0] == 1))[0][0])
    assert scores[0, node] == np.log(0.2)


def test_a_chain_keeps_first_choices_only():
    tree = TREES["bushy"]
    kept = Selector(RankScorer.from_paths(chain(2)), TreeLimits()).keep(tree, context(2))
    nodes = kept[0][kept[0] >= 0]
    assert (tree.ranks[0, nodes[1:]] == 0).all()
