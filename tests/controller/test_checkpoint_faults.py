"""Random damage to every file of a checkpoint: refused in one sentence, or without any effect."""

import numpy as np
import pytest
from checkpoints import damaged, reseal, write
from trees import context, random_tree
from treewright.controller.checkpoint import Checkpoint
from treewright.controller.checkpoint.saving import FILES
from treewright.controller.errors import InputError

TREE = random_tree(np.random.default_rng(0), batch=2, levels=3)


def loaded(folder):
    """The checkpoint, or None where one sentence refuses it; anything else is raised."""
    try:
        return Checkpoint.from_pretrained(folder)
    except InputError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1
    return None


def outcomes(folder, names, count, sealed):
    """(file, checkpoint or None) of `count` damages, one at a time."""
    generator = np.random.default_rng(count)
    intact = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number in range(count):
        name = names[number % len(names)]
        (folder / name).write_bytes(damaged(intact[name], generator))
        if sealed:
            reseal(folder)
        yield name, loaded(folder)
        for restored in (name, "config.json"):
            (folder / restored).write_bytes(intact[restored])


NUMBERS = [154, pytest.param(1001, marks=pytest.mark.slow)]  # multiples of the seven files


@pytest.mark.parametrize("count", NUMBERS)
def test_damage_is_refused_or_has_no_effect(tmp_path, count):
    folder = write(tmp_path / "selector")
    whole = Checkpoint.from_pretrained(folder)
    scores, num_refused = whole.scorer().score(TREE, context(2)).accept, 0
    for name, checkpoint in outcomes(folder, FILES, count, sealed=False):
        if checkpoint is None:
            num_refused += 1
            continue
        assert name in ("config.json", "README.md")
        assert (checkpoint.config, checkpoint.files) == (whole.config, whole.files)
        np.testing.assert_array_equal(checkpoint.scorer().score(TREE, context(2)).accept, scores)
    assert num_refused >= count * 5 // len(FILES)  # every damage to the hashed files


@pytest.mark.parametrize("count", NUMBERS)
def test_damage_under_right_hashes_still_gives_log_probabilities(tmp_path, count):
    """A forger recomputes the hashes too: then only the checks after the hashes protect."""
    names = ("model.onnx", "model.safetensors", "golden.safetensors", "baselines.json", "metrics.json")
    for name, checkpoint in outcomes(write(tmp_path / "selector"), names, count, sealed=True):
        if checkpoint is not None:
            scores = checkpoint.scorer().score(TREE, context(2)).accept
            assert (scores[TREE.valid] <= 0).all(), name
            assert np.isfinite(scores[TREE.valid]).all(), name
