"""The selector's perceptron in numpy: what torch computes, for no other network's weights."""

import numpy as np
import pytest
import torch
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.numpy_model import PerceptronNetwork
from treewright.controller.learned.torch_model import SelectorModel

FEATURE_ROWS = np.random.default_rng(0).normal(scale=3.0, size=(20, len(FEATURES))).astype(np.float32)


def model():
    torch.manual_seed(2)
    made = SelectorModel(len(FEATURES), 4).eval()
    made.standardise(torch.from_numpy(FEATURE_ROWS))
    return made


def weights():
    return {name: value.numpy().copy() for name, value in model().state_dict().items()}


def network(held) -> PerceptronNetwork:
    made = PerceptronNetwork.from_weights(held)
    assert made is not None
    return made


def test_it_answers_as_torch_does():
    accept, coverage = network(weights())(FEATURE_ROWS)
    with torch.inference_mode():
        expected = model()(torch.from_numpy(FEATURE_ROWS))
    np.testing.assert_allclose(accept, expected.accept.numpy(), atol=1e-5)
    np.testing.assert_allclose(coverage, expected.coverage.numpy(), atol=1e-5)


def test_a_node_gets_the_same_answer_alone_and_in_a_batch():
    answers = network(weights())
    alone = [answers(row[None])[0][0] for row in FEATURE_ROWS]
    np.testing.assert_allclose(alone, answers(FEATURE_ROWS)[0], atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.pop("mean"),
        lambda held: held.update(more=np.ones(3, dtype=np.float32)),
        lambda held: held.update({"trunk.2.weight": held["trunk.2.weight"][:-1]}),
        lambda held: held.update({"low": held["low"][:-1]}),
        lambda held: held.update({"trunk.0.bias": np.float32(1)}),
        lambda held: held.clear(),
    ],
)
def test_weights_of_another_network_are_refused(change):
    held = weights()
    change(held)
    assert PerceptronNetwork.from_weights(held) is None


def test_extreme_weights_give_non_finite_numbers_without_a_warning():
    held = weights()
    held["trunk.0.weight"] *= np.float32(1e38)
    held["scale"] *= 0
    accept, _ = network(held)(FEATURE_ROWS)
    assert not np.isfinite(accept).all()
