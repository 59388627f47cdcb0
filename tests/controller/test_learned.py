"""The learned score of a graph with invalid answers: the drafter's confidence replaces them, and they are counted."""

import numpy as np
import pytest
import torch
from checkpoints import graph, heads, mean_of_features, serialised
from onnx import TensorProto, helper
from trees import context, random_tree
from treewright.controller.learned import torch_model as model
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.scorer import INPUT_NAME, LearnedScorer
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.siblings import among_siblings, at_most_one
from treewright.controller.trees.limits import TreeLimits

TREE = random_tree(np.random.default_rng(3), batch=2, levels=3)
NUM_DRAFTED = int((TREE.num_nodes - 1).sum())
COVERAGE = np.array([0.6, 0.2, 0.1])


def constant(value):
    """A scorer whose network answers `value` for every node."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    wanted = helper.make_tensor("wanted", TensorProto.FLOAT, [1], [-value])
    nodes = [
        *mean_of_features()[:2],
        helper.make_node("Less", ["mean", "zero"], ["never"]),  # a mean of squares is not
        helper.make_node("Where", ["never", "mean", "wanted"], ["answer"]),
        *heads("answer"),
    ]
    return LearnedScorer.from_bytes(serialised(graph(nodes, initializer=[zero, wanted])))


def beside_siblings(tree, alone):
    """[B, N] by families: the odds of each child against none, over those of all and of none."""
    expected = np.zeros(alone.shape)
    for slot, count in enumerate(tree.num_nodes):
        for node in range(1, count):
            family = [other for other in range(1, count) if tree.parents[slot, other] == tree.parents[slot, node]]
            odds = {other: np.exp(alone[slot, other]) / (1 - np.exp(alone[slot, other])) for other in family}
            expected[slot, node] = np.log(max(odds[node], 1e-300) / (1 + sum(odds.values())))
    return expected


def test_siblings_share_what_one_child_can_have():
    alone = -np.random.default_rng(5).exponential(size=TREE.tokens.shape)
    drafted = TREE.valid & (TREE.depths > 0)
    np.testing.assert_allclose(among_siblings(alone, TREE)[drafted], beside_siblings(TREE, alone)[drafted], rtol=1e-12)


@pytest.mark.parametrize("share", [among_siblings, at_most_one])
def test_even_certain_siblings_sum_to_one_at_most(share):
    certain = share(np.zeros(TREE.tokens.shape), TREE)
    for slot in range(2):
        children = TREE.valid[slot] & (TREE.parents[slot] == 0)
        assert np.exp(certain[slot, children]).sum() == pytest.approx(1.0)


def test_probabilities_that_leave_room_for_each_other_stay():
    faint = np.full(TREE.tokens.shape, -3.0)
    np.testing.assert_array_equal(at_most_one(faint, TREE), faint)


def test_training_and_serving_share_alike():
    """Torch by numbers of families, numpy by parents."""
    log_odds = torch.from_numpy(np.random.default_rng(5).normal(size=TREE.tokens.shape))
    drafted = TREE.valid & (TREE.depths > 0)
    parents = (TREE.parents + 1000 * np.arange(2)[:, None])[drafted]
    family = torch.from_numpy(np.unique(parents, return_inverse=True)[1])
    trained, _ = model.among_siblings(log_odds[torch.from_numpy(drafted)], family)
    served = among_siblings(-torch.nn.functional.softplus(-log_odds).numpy(), TREE)
    np.testing.assert_allclose(served[drafted], trained, rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.5])
def test_an_answer_that_is_no_log_probability_gives_way_to_the_drafters_confidence(value, caplog):
    scorer = constant(value)
    scores = scorer.score(TREE, context(2)).accept
    np.testing.assert_array_equal(scores[TREE.valid], TREE.noisy_log_probs[TREE.valid])
    assert scorer.num_distrusted == NUM_DRAFTED
    scorer.score(TREE, context(2))
    assert scorer.num_distrusted == 2 * NUM_DRAFTED
    assert len(caplog.records) == 1


def test_a_log_probability_is_trusted():
    scorer = constant(-0.25)
    expected = beside_siblings(TREE, np.full(TREE.tokens.shape, -0.25))
    np.testing.assert_allclose(scorer.score(TREE, context(2)).accept[TREE.valid], expected[TREE.valid], rtol=1e-6)
    assert scorer.num_distrusted == 0


def test_only_the_node_with_the_strange_answer_gives_way():
    """The answer is the node's rank less 1.5: only the first two ranks get log-probabilities."""
    rank = helper.make_tensor("rank", TensorProto.INT64, [], [FEATURES.index("ranks")])
    most = helper.make_tensor("most", TensorProto.FLOAT, [1], [1.5])
    nodes = [
        helper.make_node("Gather", [INPUT_NAME, "rank"], ["ranks"], axis=1),
        helper.make_node("Sub", ["most", "ranks"], ["less"]),
        *heads("less"),
    ]
    scorer = LearnedScorer.from_bytes(serialised(graph(nodes, initializer=[rank, most])))
    drafted = TREE.valid & (TREE.depths > 0)
    scores = scorer.score(TREE, context(2)).accept
    strange = drafted & (TREE.ranks == 2)
    expected = beside_siblings(TREE, np.where(strange, -np.inf, TREE.ranks - 1.5))
    np.testing.assert_allclose(scores[drafted & ~strange], expected[drafted & ~strange], rtol=1e-6)
    np.testing.assert_array_equal(scores[strange], TREE.noisy_log_probs[strange])
    assert scorer.num_distrusted == strange.sum() > 0


def test_nonsense_keeps_the_tree_that_confidence_keeps():
    kept = Selector(constant(np.nan), TreeLimits(budget=4)).begin(context(2)).keep(TREE)
    best = np.argsort(-TREE.path_noisy_log_probs[0, : TREE.num_nodes[0]], kind="stable")[:5]
    np.testing.assert_array_equal(kept[0], np.sort(best))
