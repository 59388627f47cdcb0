"""A GGUF model gives the logits of the same model in transformers, whatever its forwards and commits have been."""

import gguf_models
import numpy as np
import pytest
import torch
from treewright.controller.errors import InputError
from treewright.runtime.engines.base import append_text
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.engines.llamacpp.model import LlamaCppModel
from treewright.runtime.engines.llamacpp.probe import tree_error
from treewright.runtime.engines.transformers.model import TransformersModel

pytestmark = pytest.mark.engine

# Both round to float32, in another order; logits reach 40 or so.
TOLERANCE = 2e-3


@pytest.fixture
def ours() -> LlamaCppModel:
    return gguf_models.models()[0]


@pytest.fixture
def theirs() -> TransformersModel:
    return TransformersModel(gguf_models.network(), gguf_models.VOCABULARY_SIZE)


def random_tree(generator, num_rows, num_old=0):
    """Parents of more rows behind `num_old`."""
    return np.array([int(generator.integers(-1, num_old + row)) for row in range(num_rows)])


def depths_of(parents):
    depths = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return np.array(depths)


def path_to(parents, row):
    path = []
    while row >= 0:
        path.append(row)
        row = parents[row]
    return path[::-1]


def compare(models, tokens, positions, parents, **options):
    found, expected = (model.forward(tokens, positions, parents, **options).clone() for model in models)
    real = options.get("real")
    if real is not None:
        count = options.get("num_logits") or tokens.shape[1]
        found, expected = (logits[torch.from_numpy(real[:, -count:])] for logits in (found, expected))
    assert float((found - expected).abs().max()) < TOLERANCE


def test_trees_of_several_texts_and_levels_and_commits_give_the_logits_of_transformers(ours, theirs):
    generator, models = np.random.default_rng(5), (ours, theirs)
    lengths = np.array([7, 1, 12])
    for model in models:
        model.open(0, 0)
        for length in lengths:
            model.join(150)
            append_text(model, len(model.lengths) - 1, np.arange(1, length + 1))
    for _ in range(3):
        parents = [random_tree(generator, 5) for _ in lengths]
        for level in range(3):
            if level:
                parents = [np.append(old, random_tree(generator, 5, len(old))) for old in parents]
            depths = np.stack([depths_of(of_text)[-5:] for of_text in parents])
            tokens = generator.integers(gguf_models.VOCABULARY_SIZE, size=(3, 5))
            compare(models, tokens, lengths[:, None] + depths, np.stack([of_text[-5:] for of_text in parents]))
        paths = [path_to(of_text, int(generator.integers(len(of_text)))) for of_text in parents]
        rows = np.full((3, max(map(len, paths))), -1)
        for text, path in enumerate(paths):
            rows[text, : len(path)] = path
        for model in models:
            model.commit(rows)
        lengths += [len(path) for path in paths]
        assert ours.lengths.tolist() == theirs.lengths.tolist() == lengths.tolist()


def test_padding_is_skipped_and_only_the_last_logits_are_given(ours, theirs):
    models, real = (ours, theirs), np.array([[False, True, True, True], [True, True, True, False]])
    for model in models:
        model.open(2, 40)
    parents = np.array([[-1, -1, 1, 1], [-1, 0, 1, -1]])
    positions = np.array([[0, 0, 1, 1], [0, 1, 2, 0]])
    tokens = np.arange(8).reshape(2, 4) + 1
    compare(models, tokens, positions, parents, real=real, num_logits=3)


def test_a_slot_moves_to_the_place_of_one_that_leaves(ours, theirs):
    models = ours, theirs
    for model in models:
        model.open(0, 0)
        for first in (1, 11, 21):
            model.join(60)
            append_text(model, len(model.lengths) - 1, np.arange(first, first + 4))
        model.keep([2, 1])
        model.join(60)
        append_text(model, 2, np.arange(40, 43))
    tokens, rows = np.array([[5, 6]] * 3), np.array([[-1, 0]] * 3)
    compare(models, tokens, ours.lengths[:, None] + [0, 1], rows)


def test_what_a_failed_forward_has_left_is_dropped(ours, theirs):
    models = ours, theirs
    for model in models:
        model.open(1, 300)
        append_text(model, 0, np.arange(1, 6))
    wide = np.full((1, 257), -1)  # one more leaf than there are sequences
    with pytest.raises(InputError, match="256 sequences"):
        ours.forward(np.ones_like(wide), np.full_like(wide, 5), wide)
    for model in models:
        model.commit(np.zeros((0, 0), dtype=np.int64))
    compare(models, np.array([[7, 8, 9]]), np.array([[5, 6, 6]]), np.array([[-1, 0, 0]]))


def test_a_block_larger_than_one_call_is_split(ours, theirs):
    models = ours, theirs
    for model in models:
        model.open(3, 250)
    rows = np.tile(np.arange(200), (3, 1))
    compare(models, rows % gguf_models.VOCABULARY_SIZE, rows, rows - 1)


def test_texts_fill_the_cache_and_no_more_join(ours):
    small = gguf_models.models(texts=2, context=300)[0]
    small.open(0, 0)
    small.join(1000)
    assert small.has_room(300)
    assert not small.has_room(400)
    with pytest.raises(InputError, match=r"take 1400 cells .* has 1324; raise pair.llamacpp.context"):
        small.join(400)
    small.join(10)
    assert not small.has_room(1)
    with pytest.raises(InputError, match="set up for 2 texts together"):
        small.join(1)


@pytest.mark.parametrize(("texts", "opened", "leaves"), [(8, 0, 32), (1, 0, 256), (8, 1, 256), (3, 2, 128)])
def test_sequences_are_shared_among_the_texts(texts, opened, leaves):
    model = gguf_models.models(texts=texts)[0]
    model.open(opened, 10)
    assert model.max_leaves == leaves


def test_logits_are_those_of_another_thread_count(ours):
    block = np.arange(1, 9)[None]
    rows = np.arange(8)[None]
    logits = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ours.open(1, 20)
        logits.append(ours.forward(block, rows, rows - 1).clone())
    torch.set_num_threads(before)
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    "options", [{"cache_type": "f16"}, {"flash_attention": True}, {"flash_attention": True, "cache_type": "bf16"}]
)
def test_other_number_formats_of_the_cache_pass_the_probe(options):
    model = gguf_models.models(**options)[0]
    assert options.get("cache_type", "f32") in model.number_format


class Linear(LlamaCppModel):
    """Takes every tree for a text."""

    def forward(self, tokens, positions, parents, **options):
        rows = len(self._sequences.slots[0].paths) + np.arange(parents.shape[1])
        return super().forward(tokens, positions, np.where(parents >= 0, rows - 1, -1), **options)


def test_a_tree_that_is_ignored_is_noticed(ours):
    deaf = Linear("", ours.context, LlamaCppConfig(), vocabulary_size=ours.vocabulary_size, weights="all F32")
    assert "differ from those of the same text" in (tree_error(deaf, "all F32") or "")
    assert tree_error(ours, "all F32") is None
