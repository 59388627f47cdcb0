"""One contract for every scorer, on a lone root, a chain and bushy batches."""

import numpy as np
import plans
import pytest
from trees import context, growing_trees, random_tree, stack
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.scorer import LearnedScorer
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.c2t import C2TScorer
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.floor import FloorScorer
from treewright.controller.scorers.fused import FusedScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.shapes import chain
from treewright.controller.trees.tree import DraftTree

WEIGHTS = np.random.default_rng(7).normal(size=(len(FEATURES), 4)).astype(np.float32)


def network(features):
    """Any function of each node's features alone."""
    answers = -np.logaddexp(0, np.tanh(features) @ WEIGHTS)
    return answers[:, 0], answers[:, 1:]


SCORERS = {
    "confidence": ConfidenceScorer,
    "rank table": lambda: RankScorer(np.log([[0.6, 0.2, 0.1], [0.5, 0.2, 0.1], [0.4, 0.2, 0.1]])),
    "static paths": lambda: RankScorer.from_paths([(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]),
    "fused": lambda: FusedScorer((0.6, 0.2, 0.1)),
    "floor": lambda: FloorScorer(ConfidenceScorer(), 0.05),
    "C2T": lambda: C2TScorer(plans.C2T),
    "learned": lambda: LearnedScorer(network),
}
TREES = {
    "lone roots": DraftTree.from_roots(np.array([3, 4])),
    "chains": random_tree(np.random.default_rng(0), batch=2, levels=3, width=1),
    "bushy": random_tree(np.random.default_rng(1), batch=2, levels=3),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
class TestEveryScorer:
    def test_scores_are_log_probabilities(self, make, tree):
        scorer = make()
        scores = scorer.score(tree, context(2)).accept
        assert scores.shape == tree.tokens.shape
        assert (scores[tree.valid] <= 0).all()

    def test_coverage_has_one_entry_per_node_and_rank(self, make, tree):
        scorer = make()
        coverage = scorer.score(tree, context(2)).coverage
        assert coverage.shape[:2] == tree.tokens.shape
        assert (coverage <= 0).all()

    def test_the_answer_is_the_same_twice(self, make, tree):
        scorer = make()
        np.testing.assert_array_equal(scorer.score(tree, context(2)).accept, scorer.score(tree, context(2)).accept)

    @pytest.mark.parametrize("budget", [0, 1, 3, 50])
    def test_the_kept_tree_is_closed_within_budget_and_has_the_root(self, make, tree, budget):
        kept = Selector(make(), TreeLimits(budget=budget)).begin(context(2)).keep(tree)
        assert (kept[:, 0] == 0).all()
        assert kept.shape[1] <= budget + 1
        tree.subtree(kept)  # asserts that every parent is kept

    def test_the_frontier_holds_nodes_of_the_last_level(self, make, tree):
        scorer = make()
        frontier = Selector(scorer, TreeLimits()).begin(context(2)).frontier(tree)
        rows, order = np.nonzero(frontier >= 0)
        assert (tree.depths[rows, frontier[rows, order]] == tree.depths.max()).all()


@pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
@pytest.mark.parametrize("seed", range(8))
def test_a_ragged_batch_scored_level_by_level_is_scored_as_from_scratch(make, seed):
    trees = growing_trees(np.random.default_rng(seed), batch=3, levels=4, cut=-2)
    scorer, requests, before = make(), context(3), None
    for tree in trees:
        before, whole, there = scorer.score(tree, requests, before), make().score(tree, requests), tree.valid
        np.testing.assert_array_equal(before.accept[there], whole.accept[there])
        np.testing.assert_array_equal(before.coverage[there], whole.coverage[there])


@pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
@pytest.mark.parametrize("seed", range(4))
def test_a_step_over_a_growing_tree_decides_as_a_step_that_sees_it_whole(make, seed):
    policy, requests = Selector(make(), TreeLimits(frontier=3, budget=5)), context(3)
    step = policy.begin(requests)
    for tree in growing_trees(np.random.default_rng(seed), batch=3, levels=4, cut=-2):
        np.testing.assert_array_equal(step.frontier(tree), policy.begin(requests).frontier(tree))
        np.testing.assert_array_equal(step.keep(tree), policy.begin(requests).keep(tree))


@pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
def test_steps_of_one_policy_that_overlap_know_nothing_of_each_other(make):
    policy, generator = Selector(make(), TreeLimits(budget=5)), np.random.default_rng(3)
    grown = [growing_trees(generator, batch=2, levels=3, cut=-2) for _ in range(2)]
    steps = [policy.begin(context(2)) for _ in grown]
    for level in zip(*grown, strict=True):
        for step, tree in zip(steps, level, strict=True):
            np.testing.assert_array_equal(step.keep(tree), policy.begin(context(2)).keep(tree))


@pytest.mark.parametrize("make", SCORERS.values(), ids=SCORERS)
def test_a_text_is_scored_as_if_it_were_alone_in_the_batch(make):
    generator = np.random.default_rng(2)
    trees = [random_tree(generator, levels=levels) for levels in (1, 4, 2)]
    size = max(tree.tokens.shape[1] for tree in trees)
    together = stack(*(padded(tree, size) for tree in trees))
    scores = make().score(together, context(3)).accept
    for row, tree in enumerate(trees):
        alone = make().score(tree, context(1)).accept
        np.testing.assert_allclose(scores[row, : alone.shape[1]], alone[0], rtol=1e-6)


def padded(tree, size):
    """The one tree with padding up to `size` nodes."""
    blank = DraftTree.from_roots(np.zeros(1, dtype=np.int64)).subtree(np.where(np.arange(size) == 0, 0, -1)[None])
    for ours, theirs in ((blank.links, tree.links), (blank.numbers, tree.numbers)):
        ours[:, : theirs.shape[1]] = theirs
    return DraftTree(tree.num_nodes, blank.links, blank.numbers)


def test_a_rank_table_scores_by_depth_and_rank():
    tree = TREES["bushy"]
    scores = SCORERS["rank table"]().score(tree, context(2)).accept
    node = int(np.nonzero((tree.depths[0] == 2) & (tree.ranks[0] == 1))[0][0])
    assert scores[0, node] == np.log(0.2)


def test_a_chain_keeps_first_choices_only():
    tree = TREES["bushy"]
    kept = Selector(RankScorer.from_paths(chain(2)), TreeLimits()).begin(context(2)).keep(tree)
    nodes = kept[0][kept[0] >= 0]
    assert (tree.ranks[0, nodes[1:]] == 0).all()
