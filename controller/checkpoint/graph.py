"""Checks that a selector's graph is a short sequence of arithmetic that reproduces its golden vectors.

A checkpoint may come from an untrusted source. The graph is therefore read as data first: listed operations of the
standard domain only, no control flow, no functions, nothing outside its own bytes. Only then is it run, under a
deadline and without optimisation, because no deadline applies to the optimiser.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from threading import Timer
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, TensorProto

from ..errors import InputError, first_line
from ..learned.features import FEATURES
from ..learned.scorer import INPUT_NAME, OUTPUT_NAMES, SILENT, open_session
from ..learned.shape_features import SHAPE_FEATURES
from ..learned.shape_menu import LENGTHS_NAME
from ..trees.tree import Array

STANDARD_DOMAINS = ("", "ai.onnx")
# fmt: off
OPERATIONS = frozenset((
    "Abs", "Add", "And", "Cast", "Clip", "Concat", "Constant", "CumSum", "Div", "Elu", "Equal", "Erf", "Exp", "Flatten",
    "Gather", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "LayerNormalization", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid",
    "Sign", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    "Where",
))
# fmt: on
PLAIN_ATTRIBUTES = frozenset(
    getattr(AttributeProto, name) for name in ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS")
)
MAX_OPERATIONS = 512
MAX_GOLDEN = 4096
GOLDEN_TOLERANCE = 1e-4
DEADLINE_S = 10.0
# What a C++ exception can become: Python's, or ONNX Runtime's own, which have no base in common.
RUNTIME_ERRORS = (
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
    MemoryError,
    *(
        error
        for error in vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state")).values()
        if isinstance(error, type) and issubclass(error, Exception)
    ),
)


class Interface(NamedTuple):
    """What a graph turns into what."""

    num_features: int
    outputs: tuple[str, ...]


OF_NODES = Interface(len(FEATURES), OUTPUT_NAMES)
OF_SHAPES = Interface(len(SHAPE_FEATURES), (LENGTHS_NAME,))


def check_graph(
    graph: bytes, weights: Mapping[str, Array], golden: Mapping[str, Array], interface: Interface = OF_NODES
) -> float:
    """The largest miss of a golden vector; InputError in one sentence for a graph that is no selector."""
    try:
        model = onnx.load_model_from_string(graph)
    except DecodeError as error:
        raise InputError(f"model.onnx is no ONNX graph ({first_line(error)}); the folder is damaged") from error
    _check_operations(model)
    _check_interface(model.graph, interface)
    _check_weights(model.graph, weights)
    _check_golden(golden, interface)
    first = {name: values[:1] for name, values in golden.items()}  # a node's answer does not depend on the other rows
    try:
        session = open_session(graph, trusted=False)
        answers = [
            _answers(opened, of, interface)
            for opened, of in ((session, golden), (session, first), (open_session(graph), golden))
        ]
    except RUNTIME_ERRORS as error:
        raise InputError(f"model.onnx does not run ({first_line(error)}); the folder is damaged") from error
    miss = max(
        golden_miss(given, wanted, interface) for given, wanted in zip(answers, (golden, first, golden), strict=True)
    )
    if not miss <= GOLDEN_TOLERANCE:
        raise InputError(f"the graph misses its golden vectors by {miss:.2g}; the folder is damaged")
    return miss


def _check_operations(model: onnx.ModelProto) -> None:
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise InputError("model.onnx holds more than one plain graph, which no selector needs; do not use it")
    if len(model.graph.node) > MAX_OPERATIONS:
        raise InputError(f"model.onnx has {len(model.graph.node)} operations, a selector at most {MAX_OPERATIONS}")
    for node in model.graph.node:
        if node.domain not in STANDARD_DOMAINS or node.op_type not in OPERATIONS:
            name = f"{node.domain}.{node.op_type}".lstrip(".")
            raise InputError(f"model.onnx has the operation {name!r}, which no selector needs; do not use it")
        if any(attribute.type not in PLAIN_ATTRIBUTES for attribute in node.attribute):
            raise InputError(f"an operation {node.op_type} of model.onnx holds a graph of its own; do not use it")
    constants = [
        attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type == AttributeProto.TENSOR
    ]
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in (*model.graph.initializer, *constants)):
        raise InputError("model.onnx keeps values in another file, which a checkpoint never does; do not use it")


def _check_interface(graph: GraphProto, interface: Interface) -> None:
    """Inputs and outputs by name, number format and shape."""
    # Names that are no UTF-8 come as bytes.
    inputs, outputs = [str(value.name) for value in graph.input], [str(value.name) for value in graph.output]
    if inputs != [INPUT_NAME] or outputs != list(interface.outputs):
        raise InputError(
            f"model.onnx turns {', '.join(inputs)!r} into {', '.join(outputs)!r}, a selector {INPUT_NAME!r} into "
            f"{', '.join(interface.outputs)!r}; retrain"
        )
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise InputError(f"{value.name} of model.onnx is not float32; retrain")
    rows, columns = (*graph.input[0].type.tensor_type.shape.dim, None, None)[:2]
    if rows is None or columns is None or rows.dim_value or columns.dim_value != interface.num_features:
        raise InputError(f"{INPUT_NAME} of model.onnx is not of shape [nodes, {interface.num_features}]; retrain")


def _check_weights(graph: GraphProto, weights: Mapping[str, Array]) -> None:
    """InputError where the graph and `model.safetensors` hold different weights."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    for name, weight in weights.items():
        if weight.dtype != np.float32 or not np.isfinite(weight).all():
            raise InputError(f"the weight {name!r} of model.safetensors is not finite float32; the folder is damaged")
        if name in held and not np.array_equal(_values(held[name]), weight):
            raise InputError(f"model.onnx and model.safetensors differ in {name!r}; the folder is damaged")


def _values(tensor: TensorProto) -> Array:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{tensor.name!r} of model.onnx has no values ({first_line(error)}); it is damaged") from error


def _check_golden(golden: Mapping[str, Array], interface: Interface) -> None:
    """Features and answers by name, one row per vector."""
    features = golden.get(INPUT_NAME, np.empty(0))
    sound = set(golden) == {INPUT_NAME, *interface.outputs}
    sound = sound and features.ndim == 2 and features.shape[1] == interface.num_features and len(features) <= MAX_GOLDEN
    for values in golden.values():
        sound = sound and values.size > 0 and values.ndim > 0 and len(values) == len(features)
        sound = sound and values.dtype == np.float32 and bool(np.isfinite(values).all())
    if not sound:
        raise InputError("golden.safetensors does not hold finite features and answers by name; the folder is damaged")


def _answers(session: onnxruntime.InferenceSession, golden: Mapping[str, Array], interface: Interface) -> list[Array]:
    """The graph's answers to the golden features; ONNX Runtime raises after the deadline."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = SILENT
    timer = Timer(DEADLINE_S, setattr, (options, "terminate", True))
    timer.start()
    try:
        answers = session.run(list(interface.outputs), {INPUT_NAME: golden[INPUT_NAME]}, options)
    finally:
        timer.cancel()
    return [np.asarray(answer) for answer in answers]


def golden_miss(answers: Sequence[Array], golden: Mapping[str, Array], interface: Interface = OF_NODES) -> float:
    """Largest difference to the golden answers; infinite where shapes or number formats differ."""
    largest = 0.0
    for name, values in zip(interface.outputs, answers, strict=True):
        if values.shape != golden[name].shape or values.dtype != np.float32 or not np.isfinite(values).all():
            return np.inf
        largest = max(largest, float(np.abs(values - golden[name]).max()))
    return largest
