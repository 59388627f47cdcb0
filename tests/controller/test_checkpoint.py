"""The checkpoint folder: a round trip, and damage that is always noticed."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from checkpoints import BASELINES, CONFIG, files, reseal, write
from safetensors.numpy import save
from trees import context, random_tree
from treewright.controller.checkpoint import HASHED_FILES, Checkpoint, save_checkpoint
from treewright.controller.checkpoint.config import SCHEMA_VERSION
from treewright.controller.errors import InputError
from treewright.controller.learned.features import FEATURES, node_features
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.memory import MemoryConfig
from treewright.controller.scorers.siblings import among_siblings
from treewright.train.fit.export import export_onnx


def baselines(**changes):
    return json.dumps(BASELINES | changes).encode()


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "selector")


def test_what_was_saved_loads_back(folder):
    assert Checkpoint.from_pretrained(folder).config == CONFIG


def test_a_checkpoint_that_knows_no_memory_still_loads_and_one_that_carries_a_memory_keeps_it(folder):
    def older(config):
        config.update(schema_version=5)
        del config["memory"]

    reseal(folder, older)
    assert Checkpoint.from_pretrained(folder).config == replace(CONFIG, schema_version=5)
    reseal(folder, lambda config: config.update(memory=asdict(MemoryConfig(window=64))))
    assert Checkpoint.from_pretrained(folder).config.memory == MemoryConfig(window=64)


def test_the_learned_scorer_runs_the_network_of_the_weights(folder):
    checkpoint = Checkpoint.from_pretrained(folder)
    model = SelectorModel(len(FEATURES), 3)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in checkpoint.weights.items()})
    tree = random_tree(np.random.default_rng(0), batch=2, levels=3)
    with torch.inference_mode():
        features = torch.from_numpy(node_features(tree, context(2)))
        accept, coverage = model(features.flatten(0, 1))
    expected = among_siblings(accept.numpy().reshape(features.shape[:2]), tree)
    scores = checkpoint.scorer().score(tree, context(2)).accept
    drafted = tree.depths > 0
    np.testing.assert_allclose(scores[drafted], expected[drafted], atol=1e-5)
    assert (scores[:, 0] == 0).all()
    answers = checkpoint.scorer().score(tree, context(2)).coverage
    np.testing.assert_allclose(answers, coverage.numpy().reshape(answers.shape), atol=1e-5)


def test_a_loaded_checkpoint_saves_the_same_bytes(folder, tmp_path):
    Checkpoint.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }


def test_saving_again_replaces_the_folder_whole(folder):
    (folder / "stray.txt").write_text("old")
    write(folder)
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


def test_a_graph_that_misses_its_golden_vectors_is_refused(tmp_path):
    torch.manual_seed(2)
    other = SelectorModel(len(FEATURES), 3).eval()
    weights = {name: value.numpy() for name, value in other.state_dict().items()}
    changed = {"model_onnx": export_onnx(other, len(FEATURES)), "model_safetensors": save(weights)}
    with pytest.raises(ValueError, match="misses its golden vectors"):
        Checkpoint.from_pretrained(write(tmp_path / "selector", **changed))


@pytest.mark.parametrize("name", ["model", "plain"])
def test_a_foreign_folder_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / ("config.json" if name == "model" else "notes.txt")).write_text('{"model_type": "llama"}')
    before = [path.read_bytes() for path in (tmp_path / name).iterdir()]
    with pytest.raises(InputError, match="is no checkpoint folder"):
        save_checkpoint(tmp_path / name, CONFIG, files(), "# card")
    assert [path.read_bytes() for path in (tmp_path / name).iterdir()] == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "selector")


def test_a_link_to_a_checkpoint_keeps_pointing_at_the_new_one(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    write(tmp_path / "link", metrics_json=b'{"epochs": 2}')
    assert (tmp_path / "link").is_symlink()
    assert Checkpoint.from_pretrained(folder).metrics == {"epochs": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(pair="another"),
        lambda config: config["limits"].update(budget=31),
        lambda config: config["sha256"].update({"model.onnx": "0" * 64}),
    ],
)
def test_an_edited_config_does_not_match_its_own_hash(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="its own SHA-256"):
        Checkpoint.from_pretrained(folder)


def test_a_config_written_another_way_is_the_same_config(folder):
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()), sort_keys=True))
    assert Checkpoint.from_pretrained(folder).config == CONFIG


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config.update(schema_version=99), "schema 99"),
        (lambda config: config.update(feature_version=99), "needs feature set 99"),
        (lambda config: config.update(features=["other"]), "feature set"),
        (lambda config: config.update(schema_version=None), "names no versions"),
        (lambda config: config.update(surprise=1), "unknown fields"),
        (lambda config: config.pop("limits"), "missing or unknown fields"),
        (lambda config: config.update(limits={"depth": 3}), "unknown fields"),
        (lambda config: config["limits"].update(width=0), "width is at least 1"),
        (lambda config: config["limits"].update(budget=10**9), "budget is a whole number up to"),
        (lambda config: config["limits"].update(max_depth=2.5), "max_depth is a whole number"),
        (lambda config: config["limits"].update(ngrams=1), "ngrams is true or false"),
        (lambda config: config["limits"].update(max_depth="8"), "damaged"),
        (lambda config: config.update(limits=None), "damaged"),
        (lambda config: config.update(memory={"width": 3}), "unknown fields"),
        (lambda config: config.update(memory={"window": 64.0}), "memory.window is of another kind than 128"),
        (lambda config: config.update(memory={"window": 10**9}), "memory.window is between 0 and 4096"),
        (lambda config: config.update(memory={"eta": -1.0}), "memory.eta is above 0"),
        (lambda config: config.update(memory={"beta": -1.0}), "memory.beta is at least 0"),
        (lambda config: config.update(scheme="odd"), "scheme is one of"),
        (lambda config: config.update(scheme=["coupled"]), "scheme is one of"),
        (lambda config: config.update(pair="two\nlines"), "printable line"),
        (lambda config: config.update(pair="\ud800"), "printable line"),
        (lambda config: config.update(pair=7), "printable line"),
        (lambda config: config.update(tokenizer_sha256="abc"), "no SHA-256"),
        (lambda config: config.update(provenance=[]), "provenance"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_though_its_hash_is_right(folder, change, complaint):
    reseal(folder, change)
    with pytest.raises(InputError, match=complaint):
        Checkpoint.from_pretrained(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        "\0",
        '{"schema_version": 1}',
        f'{{"schema_version": {SCHEMA_VERSION}, "feature_version": 1}}',
        '{"schema_version": NaN}',
        '{"a": 1e999}',
        "[" * 100_000,
        '{"a":' * 40 + "1" + "}" * 40,
    ],
    ids=lambda content: content[:20],
)
def test_a_config_that_cannot_be_read_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"damaged|schema 1"):
        Checkpoint.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("metrics.json", b"[1]", "no JSON object"),
        ("metrics.json", b'{"a": Infinity}', "not finite"),
        ("metrics.json", b"\xff", "no JSON"),
        ("metrics.json", b" " * (5 << 20), "larger than 4 MiB"),
        ("baselines.json", b'{"rank_probs": {"coupled": {"1.0": [2]}}}', "no probabilities"),
        ("baselines.json", b'{"rank_probs": {"coupled": {"hot": [0.5]}}}', "no probabilities"),
        ("baselines.json", b'{"rank_probs": {"coupled": {"1.0": []}}}', "no probabilities"),
        ("baselines.json", b'{"rank_probs": [1]}', "no probabilities"),
        ("baselines.json", b"{}", "no probabilities"),
        ("baselines.json", baselines(rank_probs={"coupled": {"1.0": [0.5]}}), "no probabilities of both schemes"),
        ("baselines.json", baselines(rank_probs={"coupled": {"1.0": [0.5]}, "fixed": {}}), "no probabilities"),
        ("baselines.json", baselines(c2t={"coupled": {"weights": [1, 2], "bias": 0}}), "three weights and a bias"),
        ("baselines.json", baselines(ltd={"coupled": {"weights": [1, 2, 3]}}), "three weights and a bias"),
        ("baselines.json", baselines(ltd=[1]), "three weights and a bias"),
        ("baselines.json", baselines(tuned={"learned|coupled|0.6": [1, 0]}), "no lists of numbers by name"),
        ("baselines.json", baselines(tuned={"coupled": {"hot": {}}}), "no lists of numbers by name"),
        ("baselines.json", baselines(tuned={"lucky": {"0.6": {}}}), "no lists of numbers by name"),
        ("baselines.json", baselines(tuned={"coupled": {"0.6": {"learned": []}}}), "no lists of numbers by name"),
        ("baselines.json", baselines(tuned={"coupled": {"0.6": {"learned": [{"a": "b"}]}}}), "no lists of numbers"),
        ("baselines.json", baselines(tuned={"coupled": {"-1": {"learned": [{"a": 1}]}}}), "no lists of numbers"),
        ("model.safetensors", b"nothing", "holds no tensors"),
        ("golden.safetensors", b"\xff" * 64, "holds no tensors"),
        ("model.onnx", b"\0" * ((64 << 20) + 1), "larger than 64 MiB"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_though_its_hash_is_right(folder, name, content, complaint):
    (folder / name).write_bytes(content)
    reseal(folder)
    with pytest.raises(InputError, match=complaint):
        Checkpoint.from_pretrained(folder)


def test_a_checkpoint_without_a_card_is_a_checkpoint(folder):
    (folder / "README.md").unlink()
    assert Checkpoint.from_pretrained(folder).card == ""


def test_a_folder_named_like_a_file_is_refused(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(InputError, match=r"model.onnx is missing"):
        Checkpoint.from_pretrained(folder)
