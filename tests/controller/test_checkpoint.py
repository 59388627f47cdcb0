"""The checkpoint folder: a round trip, and damage that is always noticed."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from trees import context, random_tree
from treewright.controller.checkpoint import HASHED_FILES, Checkpoint, SelectorConfig, save_checkpoint
from treewright.controller.features import FEATURES, node_features
from treewright.controller.model import AcceptModel
from treewright.controller.selector import TreeLimits
from treewright.train.export import export_onnx, golden_vectors

CONFIG = SelectorConfig("tiny", "coupled", "0" * 64, TreeLimits(), (0.6, 0.1, 0.05), {"made by": "a test"})


@pytest.fixture(scope="module")
def files():
    torch.manual_seed(1)
    model = AcceptModel(len(FEATURES)).eval()
    graph = export_onnx(model, len(FEATURES))
    features = np.random.default_rng(0).normal(size=(8, len(FEATURES))).astype(np.float32)
    return {
        "model.safetensors": save({name: value.numpy() for name, value in model.state_dict().items()}),
        "model.onnx": graph,
        "golden.safetensors": save(golden_vectors(model, graph, features)),
        "baselines.json": b"{}",
        "metrics.json": b"{}",
    }


@pytest.fixture
def folder(files, tmp_path):
    save_checkpoint(tmp_path / "selector", CONFIG, files, "# card")
    return tmp_path / "selector"


def test_what_was_saved_loads_back(folder):
    assert Checkpoint.from_pretrained(folder).config == CONFIG


def test_the_learned_scorer_runs_the_network_of_the_weights(folder):
    checkpoint = Checkpoint.from_pretrained(folder)
    model = AcceptModel(len(FEATURES))
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in checkpoint.weights.items()})
    tree = random_tree(np.random.default_rng(0), batch=2, levels=3)
    with torch.inference_mode():
        expected = model(torch.from_numpy(node_features(tree, context(2)))).numpy()
    scores = checkpoint.scorer().score(tree, context(2))
    np.testing.assert_allclose(scores[:, 1:], expected[:, 1:], atol=1e-5)
    assert (scores[:, 0] == 0).all()


def test_saving_again_replaces_the_folder_whole(folder, files):
    (folder / "stray.txt").write_text("old")
    save_checkpoint(folder, CONFIG, files, "# card")
    assert not (folder / "stray.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["selector"]


@pytest.mark.parametrize("name", HASHED_FILES)
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        Checkpoint.from_pretrained(folder)


@pytest.mark.parametrize("name", HASHED_FILES)
def test_a_truncated_file_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(ValueError, match="SHA-256"):
        Checkpoint.from_pretrained(folder)


def test_a_graph_that_misses_its_golden_vectors_is_refused(files, tmp_path):
    torch.manual_seed(2)
    other = export_onnx(AcceptModel(len(FEATURES)).eval(), len(FEATURES))
    save_checkpoint(tmp_path / "selector", CONFIG, files | {"model.onnx": other}, "# card")
    with pytest.raises(ValueError, match="golden vectors"):
        Checkpoint.from_pretrained(tmp_path / "selector")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config.update(limits={"depth": 3}), "damaged"),
        (lambda config: config.update(surprise=1), "damaged"),
        (lambda config: config.pop("coverage"), "damaged"),
        (lambda config: config["limits"].update(width=0), "width is at least 1"),
        (lambda config: config.update(features=["other"]), "feature set"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(folder, change, complaint):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=complaint):
        Checkpoint.from_pretrained(folder)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"schema_version": 1}', "{"])
def test_a_config_that_cannot_be_read_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint.from_pretrained(folder)
