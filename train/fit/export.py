"""Export: the trained network as one ONNX file, checked against torch on golden vectors."""

import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ...controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES, open_session
from ...controller.trees.tree import Array

OPSET = 20


def export_onnx(model: nn.Module, num_features: int, outputs: Sequence[str] = OUTPUT_NAMES) -> bytes:
    """The graph from features [nodes, F] to the model's `outputs`, self-contained: of a selector accept_log_probs
    [nodes] and coverage_log_probs [nodes, W].

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
            output_names=list(outputs),
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


def golden_vectors(
    model: nn.Module, graph: bytes, features: Array, outputs: Sequence[str] = OUTPUT_NAMES
) -> dict[str, Array]:
    """Inputs and the answers that every loader must reproduce; asserts that torch and the graph agree on them."""
    with torch.inference_mode():
        given = model(torch.from_numpy(features))
    answers = [answer.numpy() for answer in ((given,) if isinstance(given, Tensor) else given)]
    exported = open_session(graph).run(list(outputs), {INPUT_NAME: features})
    for ours, theirs in zip(answers, exported, strict=True):
        assert np.abs(np.asarray(theirs) - ours).max() < 1e-4, "the exported graph differs from the trained model"
    # safetensors writes raw memory, so transposed answers have to be made contiguous.
    return {INPUT_NAME: features} | {
        name: np.ascontiguousarray(answer) for name, answer in zip(outputs, answers, strict=True)
    }
