"""The learned score of a graph that answers nonsense: the drafter's confidence stands in, and it is counted."""

import numpy as np
import pytest
from checkpoints import graph, heads, mean_of_features, serialised
from onnx import TensorProto, helper
from trees import context, random_tree
from treewright.controller.features import FEATURES
from treewright.controller.scorers.learned import INPUT_NAME, LearnedScorer
from treewright.controller.selector import Selector, TreeLimits

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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.5])
def test_an_answer_that_is_no_log_probability_gives_way_to_the_drafters_confidence(value, caplog):
    scorer = constant(value)
    scores = scorer.score(TREE, context(2))
    np.testing.assert_array_equal(scores[TREE.valid], TREE.noisy_log_probs[TREE.valid])
    assert scorer.num_distrusted == NUM_DRAFTED
    scorer.score(TREE, context(2))
    assert scorer.num_distrusted == 2 * NUM_DRAFTED
    assert len(caplog.records) == 1


def test_a_log_probability_is_trusted():
    scorer = constant(-0.25)
    assert (scorer.score(TREE, context(2))[:, 1:] == -0.25).all()
    assert scorer.num_distrusted == 0


def test_only_the_node_with_the_strange_answer_gives_way():
    """The answer is the node's rank less one: only the first two ranks get log-probabilities."""
    rank = helper.make_tensor("rank", TensorProto.INT64, [], [FEATURES.index("rank")])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Gather", [INPUT_NAME, "rank"], ["ranks"], axis=1),
        helper.make_node("Sub", ["one", "ranks"], ["less"]),
        *heads("less"),
    ]
    scorer = LearnedScorer.from_bytes(serialised(graph(nodes, initializer=[rank, one])))
    drafted = TREE.valid & (TREE.depths > 0)
    scores = scorer.score(TREE, context(2))
    np.testing.assert_array_equal(scores[drafted & (TREE.ranks == 0)], -1)
    np.testing.assert_array_equal(scores[drafted & (TREE.ranks == 1)], 0)
    strange = drafted & (TREE.ranks == 2)
    np.testing.assert_array_equal(scores[strange], TREE.noisy_log_probs[strange])
    assert scorer.num_distrusted == strange.sum() > 0


def test_nonsense_keeps_the_tree_that_confidence_keeps():
    kept = Selector(constant(np.nan), TreeLimits(budget=4)).keep(TREE, context(2))
    best = np.argsort(-TREE.path_noisy_log_probs[0, : TREE.num_nodes[0]], kind="stable")[:5]
    np.testing.assert_array_equal(kept[0], np.sort(best))
