"""Hostile graphs: a checkpoint whose hashes are right may still hold one, and gets one sentence."""

import numpy as np
import onnx
import pytest
from checkpoints import golden_of, graph, heads, mean_golden, mean_of_features, reseal, serialised, write
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from safetensors.numpy import save
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.errors import InputError
from treewright.controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES


def checkpoint_of(folder, model, golden=None):
    content = model if isinstance(model, bytes) else serialised(model)
    return write(folder / "selector", model_onnx=content, golden_safetensors=golden or mean_golden())


def test_an_honest_graph_made_by_hand_is_read(tmp_path):
    assert Checkpoint.from_pretrained(checkpoint_of(tmp_path, graph(mean_of_features()))).golden_miss < 1e-6


def loop():
    """A graph that would count for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return graph([helper.make_node("Loop", ["", "true"], [], body=body), *mean_of_features()], initializer=[true])


def external():
    """A graph that wants its values from another file."""
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "shift")
    set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    return graph([*mean_of_features(), helper.make_node("Add", ["shift", "shift"], ["unused"])], initializer=[tensor])


def external_constant():
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "shift")
    set_external_data(tensor, "../weights")
    tensor.ClearField("raw_data")
    return graph([*mean_of_features(), helper.make_node("Constant", [], ["unused"], value=tensor)])


def hidden_graph():
    """A listed operation that carries a graph as an attribute."""
    body = helper.make_graph([], "body", [], [])
    node = helper.make_node("Relu", ["mean"], ["unused"])
    node.attribute.append(helper.make_attribute("body", body))
    return graph([*mean_of_features(), node])


def function():
    made = helper.make_function(
        "own", "Abs", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 20)]
    )
    return graph(mean_of_features(), functions=[made], opsets=[helper.make_opsetid("own", 1)])


def custom():
    node = helper.make_node("Abs", ["mean"], ["unused"], domain="com.example")
    return graph([*mean_of_features(), node], opsets=[helper.make_opsetid("com.example", 1)])


def many():
    return graph([*mean_of_features(), *(helper.make_node("Abs", ["mean"], [f"x{i}"]) for i in range(600))])


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (loop(), "has the operation 'Loop'"),
        (custom(), "has the operation 'com.example.Abs'"),
        (graph([*mean_of_features(), helper.make_node("RandomNormal", [], ["unused"], shape=[9])]), "'RandomNormal'"),
        (hidden_graph(), "holds a graph of its own"),
        (function(), "more than one plain graph"),
        (external(), "keeps values in another file"),
        (external_constant(), "keeps values in another file"),
        (many(), "operations, a selector at most 512"),
        (graph(mean_of_features(), inputs=("inputs",)), "turns 'inputs' into"),
        (graph(mean_of_features(), outputs=("mean",)), "into 'mean', a selector"),
        (graph(mean_of_features(), outputs=(*OUTPUT_NAMES, "mean")), "a selector"),
        (graph(mean_of_features(), inputs=(INPUT_NAME, "more")), "a selector"),
        (graph(mean_of_features(), number=TensorProto.DOUBLE), "not float32"),
        (graph(mean_of_features(), rows=5), r"not of shape \[nodes"),
        (graph(heads("nowhere")), "does not run"),
        (graph([helper.make_node("Reshape", [INPUT_NAME, "axis"], ["flat"]), *heads("flat")]), "does not run"),
        (graph(heads(INPUT_NAME)), r"does not run|misses"),
        (
            graph([*mean_of_features()[:2], helper.make_node("Log", ["mean"], ["log"]), *heads("log")]),
            "misses its golden",
        ),
        (
            graph(
                [*mean_of_features()[:2], helper.make_node("Div", ["mean", "zero"], ["infinite"]), *heads("infinite")],
                initializer=[helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])],
            ),
            "misses its golden vectors by inf",
        ),
        (helper.make_model(helper.make_graph([], "empty", [], []), ir_version=10), "a selector"),
        (serialised(graph(mean_of_features())).replace(INPUT_NAME.encode(), b"\xff" * len(INPUT_NAME)), "a selector"),
        (
            serialised(graph(heads("nowhere"))).replace(b"nowhere", b"\xee" * 7),
            "run",
        ),
        (b"\x08", "no ONNX graph"),
        (b"", "a selector"),
    ],
)
def test_a_hostile_graph_is_refused(tmp_path, model, complaint, capfd):
    with pytest.raises(InputError, match=complaint) as refused:
        Checkpoint.from_pretrained(checkpoint_of(tmp_path, model))
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_graph_too_new_for_this_runtime_is_refused(tmp_path):
    model = graph(mean_of_features())
    model.opset_import[0].version = 999
    with pytest.raises(InputError, match="does not run"):
        Checkpoint.from_pretrained(checkpoint_of(tmp_path, model))


def test_a_node_may_not_answer_for_another(tmp_path):
    """A graph that mixes its rows answers the golden vectors all the same, but not one of them alone."""
    nodes = [
        helper.make_node("ReduceMax", [INPUT_NAME, "both"], ["largest"], keepdims=0),
        helper.make_node("ReduceMean", [INPUT_NAME, "axis"], ["means"], keepdims=0),
        helper.make_node("Sub", ["largest", "means"], ["less"]),
        *heads("less"),
    ]
    model = graph(nodes, initializer=[helper.make_tensor("both", TensorProto.INT64, [2], [0, 1])])
    golden = golden_of(lambda features: features.mean(axis=1) - features.max())
    with pytest.raises(InputError, match="misses its golden vectors"):
        Checkpoint.from_pretrained(checkpoint_of(tmp_path, model, golden))


def test_a_run_beyond_the_deadline_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("treewright.controller.checkpoint.graph.DEADLINE_S", 0.0)
    nodes = [helper.make_node("MatMul", ["big", "big"], ["product0"])]
    nodes += [helper.make_node("MatMul", [f"product{i}", "big"], [f"product{i + 1}"]) for i in range(400)]
    big = onnx.numpy_helper.from_array(np.zeros((500, 500), np.float32), "big")
    with pytest.raises(InputError, match="does not run"):
        Checkpoint.from_pretrained(checkpoint_of(tmp_path, graph([*nodes, *mean_of_features()], initializer=[big])))


@pytest.mark.parametrize(
    "change",
    [
        lambda golden: golden.pop(OUTPUT_NAMES[0]),
        lambda golden: golden.pop(INPUT_NAME),
        lambda golden: golden.update(more=golden[OUTPUT_NAMES[0]]),
        lambda golden: golden.update({OUTPUT_NAMES[0]: golden[OUTPUT_NAMES[0]][:-1]}),
        lambda golden: golden.update({OUTPUT_NAMES[0]: golden[OUTPUT_NAMES[0]].astype(np.float64)}),
        lambda golden: golden.update({INPUT_NAME: golden[INPUT_NAME][:, :-1]}),
        lambda golden: golden.update({INPUT_NAME: golden[INPUT_NAME] * np.float32(np.nan)}),
        lambda golden: golden.update({name: values[:0] for name, values in golden.items()}),
        lambda golden: golden.update({OUTPUT_NAMES[0]: np.float32(1)}),
    ],
)
def test_golden_vectors_of_another_shape_are_refused(tmp_path, change):
    folder = checkpoint_of(tmp_path, graph(mean_of_features()))
    golden = dict(Checkpoint.from_pretrained(folder).golden)
    change(golden)
    (folder / "golden.safetensors").write_bytes(save({name: np.asarray(values) for name, values in golden.items()}))
    reseal(folder)
    with pytest.raises(InputError, match="does not hold finite features"):
        Checkpoint.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights["mean"].__iadd__(1), "differ in"),
        (lambda weights: weights.update(more=np.array([np.nan], np.float32)), "not finite float32"),
        (lambda weights: weights.update(more=np.array([1], np.int64)), "not finite float32"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, complaint):
    folder = write(tmp_path / "selector")
    weights = {name: values.copy() for name, values in Checkpoint.from_pretrained(folder).weights.items()}
    change(weights)
    (folder / "model.safetensors").write_bytes(save(weights))
    reseal(folder)
    with pytest.raises(InputError, match=complaint):
        Checkpoint.from_pretrained(folder)
