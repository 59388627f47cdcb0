"""Export: the trained network as one ONNX file, checked against torch on golden vectors."""

import logging
import warnings

import numpy as np
import onnx
import torch

from ...controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES, open_session
from ...controller.learned.torch_model import SelectorModel
from ...controller.trees.tree import Array

OPSET = 20


def export_onnx(model: SelectorModel, num_features: int) -> bytes:
    """The graph `features [nodes, F] -> accept_log_probs [nodes], coverage_log_probs [nodes, W]`, self-contained.

    Node metadata is stripped: the exporter adds stack traces that hold the author's paths.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")  # about the exporter's own internals
        program = torch.onnx.export(
            model.eval(),
            (torch.zeros(3, num_features),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes=({0: torch.export.Dim("nodes", min=1, max=1 << 20)},),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def golden_vectors(model: SelectorModel, graph: bytes, features: Array) -> dict[str, Array]:
    """Inputs and the answers that every loader must reproduce; asserts that torch and the graph agree on them."""
    with torch.inference_mode():
        answers = [answer.numpy() for answer in model(torch.from_numpy(features))]
    exported = open_session(graph).run(OUTPUT_NAMES, {INPUT_NAME: features})
    for ours, theirs in zip(answers, exported, strict=True):
        assert np.abs(np.asarray(theirs) - ours).max() < 1e-4, "the exported graph differs from the trained model"
    # safetensors writes raw memory, so transposed answers have to be made contiguous.
    return {INPUT_NAME: features} | {
        name: np.ascontiguousarray(answer) for name, answer in zip(OUTPUT_NAMES, answers, strict=True)
    }
