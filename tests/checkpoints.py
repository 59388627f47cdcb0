"""A small checkpoint folder, exported once, and ways to spoil it."""

import hashlib
import json
from functools import cache

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save
from treewright.controller.checkpoint import HASHED_FILES, SelectorConfig, save_checkpoint
from treewright.controller.checkpoint.config import seal
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES, open_session
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.trees.limits import TreeLimits
from treewright.train.fit.export import export_onnx, golden_vectors

CONFIG = SelectorConfig("tiny", "coupled", "0" * 64, TreeLimits(), {"made by": "a test"})
BASELINES = {"rank_probs": {scheme: {"1.00": [0.6, 0.1, 0.05]} for scheme in ("coupled", "fixed")}}


@cache
def files():
    """The hashed files of a checkpoint of random weights."""
    torch.manual_seed(1)
    model = SelectorModel(len(FEATURES), 3).eval()
    graph = export_onnx(model, len(FEATURES))
    features = np.random.default_rng(0).normal(size=(8, len(FEATURES))).astype(np.float32)
    return {
        "model.safetensors": save({name: value.numpy() for name, value in model.state_dict().items()}),
        "model.onnx": graph,
        "golden.safetensors": save(golden_vectors(model, graph, features)),
        "baselines.json": json.dumps(BASELINES).encode(),
        "metrics.json": b'{"epochs": 1}',
    }


def write(folder, **changes):
    """A checkpoint folder; changed files are given by their names with `_` for the dot."""
    changed = {name.replace("_", "."): content for name, content in changes.items()}
    save_checkpoint(folder, CONFIG, files() | changed, "# card")
    return folder


def reseal(folder, change=lambda config: None):
    """Recompute all hashes after a change, as in a forged checkpoint."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    config["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in HASHED_FILES}
    (folder / "config.json").write_text(json.dumps(seal(config)))


def damaged(content, generator):
    """`content` with one bit flipped, cut short, or with a run of bytes blanked."""
    index = int(generator.integers(len(content)))
    match generator.integers(3):
        case 0:
            return content[:index] + bytes([content[index] ^ 1 << int(generator.integers(8))]) + content[index + 1 :]
        case 1:
            return content[:index]
        case _:
            length = min(int(generator.integers(1, 64)), len(content) - index)
            return content[:index] + bytes(length) + content[index + length :]


def graph(
    nodes, *, inputs=(INPUT_NAME,), outputs=OUTPUT_NAMES, rows: str | int = "nodes", number=TensorProto.FLOAT, **parts
):
    """An ONNX graph made by hand: features [nodes, F] to answers, [nodes] of the first head, [nodes, 1] of others."""
    taken = [helper.make_tensor_value_info(name, number, [rows, len(FEATURES)]) for name in inputs]
    shapes = [[rows], *([rows, 1] for _ in outputs[1:])]
    given = [
        helper.make_tensor_value_info(*head) for head in zip(outputs, [number] * len(outputs), shapes, strict=True)
    ]
    initializer = [helper.make_tensor("axis", TensorProto.INT64, [1], [1]), *parts.pop("initializer", ())]
    made = helper.make_graph(nodes, "selector", taken, given, initializer=initializer)
    opsets = [helper.make_opsetid("", 20), *parts.pop("opsets", ())]
    return helper.make_model(made, opset_imports=opsets, ir_version=10, **parts)


def mean_of_features():
    """The nodes of a graph whose heads all answer with minus the mean square of the features."""
    return [
        helper.make_node("Mul", [INPUT_NAME, INPUT_NAME], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=0),
        *heads("mean"),
    ]


def heads(value):
    """The nodes that turn minus `value` [nodes] into the answer of every head."""
    others = [helper.make_node("Unsqueeze", [OUTPUT_NAMES[0], "axis"], [name]) for name in OUTPUT_NAMES[1:]]
    return [helper.make_node("Neg", [value], [OUTPUT_NAMES[0]]), *others]


def golden_of(answers_of, num=5):
    """Golden vectors of random features under a function [n, F] to [n]."""
    features = np.random.default_rng(1).normal(size=(num, len(FEATURES))).astype(np.float32)
    answers = answers_of(features)
    return save(
        {INPUT_NAME: features, OUTPUT_NAMES[0]: answers} | {name: answers[:, None] for name in OUTPUT_NAMES[1:]}
    )


def mean_golden():
    """The golden vectors of `mean_of_features`."""
    return golden_of(lambda features: -(features**2).mean(axis=1))


def answers(graph: bytes, features: np.ndarray) -> list[np.ndarray]:
    """What an exported graph answers to features [n, F], head by head."""
    return [np.asarray(answer) for answer in open_session(graph).run(OUTPUT_NAMES, {INPUT_NAME: features})]


def serialised(model) -> bytes:
    assert isinstance(model, onnx.ModelProto)
    return model.SerializeToString()
