"""The exported graph answers as the torch model does, and holds nothing of the author's machine."""

import numpy as np
import onnx
import pytest
import torch
from checkpoints import answers
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.torch_model import SelectorModel
from treewright.train.fit.export import export_onnx


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = SelectorModel(len(FEATURES), 4).eval()
    model.standardise(torch.randn(100, len(FEATURES)) * 3 + 1)
    return model


@pytest.fixture(scope="module")
def graph(model):
    return export_onnx(model, len(FEATURES))


@pytest.mark.parametrize("spread", [1.0, 100.0])  # wide features give far tails, where a log of a sigmoid rounds
@pytest.mark.parametrize("nodes", [1, 2, 37, 500])
def test_graph_and_model_agree_for_any_number_of_nodes(model, graph, nodes, spread):
    features = spread * torch.randn(nodes, len(FEATURES), generator=torch.Generator().manual_seed(nodes))
    with torch.inference_mode():
        for head, expected in zip(answers(graph, features.numpy()), model(features), strict=True):
            np.testing.assert_allclose(head, expected.numpy(), rtol=1e-5, atol=2e-5)


def test_answers_are_log_probabilities(graph):
    features = np.random.default_rng(0).normal(size=(200, len(FEATURES))).astype(np.float32) * 50
    accept, coverage = answers(graph, features)
    assert (accept <= 0).all()
    assert (np.exp(coverage).sum(axis=1) <= 1 + 1e-6).all()


def test_the_graph_names_its_dimension_and_holds_no_paths(graph):
    loaded = onnx.load_from_string(graph)
    assert loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "nodes"
    assert b".py" not in graph
    assert b"/" not in b"".join(node.SerializeToString() for node in loaded.graph.node)
