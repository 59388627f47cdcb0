"""Tree rows through the preallocated cache equal plain forwards, in float64."""

import numpy as np
import pytest
import tiny
import torch
from trees import random_tree
from treewright.runtime.backends.base import CHUNK, append_text
from treewright.runtime.target import Target

# Both sides are the same float64 sums in another order; logits here are of size one.
TOLERANCE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module")
def model():
    return tiny.llama()


def plain_logits(model, tokens):
    """[V] logits after the last of `tokens`, without any cache."""
    with torch.inference_mode():
        return model.model(torch.tensor([tokens]), use_cache=False).logits[0, -1]


def texts(lengths):
    generator = np.random.default_rng(3)
    return [generator.integers(tiny.VOCABULARY_SIZE, size=length) for length in lengths]


def tree_for(texts, generator):
    tree = random_tree(generator, batch=len(texts), levels=3)
    tree.tokens[:] %= tiny.VOCABULARY_SIZE
    tree.tokens[:, 0] = [text[-1] for text in texts]
    return tree


def path_tokens(tree, row, node):
    path = []
    while node > 0:
        path.append(int(tree.tokens[row, node]))
        node = int(tree.parents[row, node])
    return path[::-1]


@pytest.mark.parametrize("lengths", [(9,), (5, 5), (4, 11, 1)], ids=str)
def test_every_node_has_the_logits_of_its_path_step_after_step(model, lengths):
    prompts = texts(lengths)
    generator = np.random.default_rng(5)
    target = Target(model)
    target.start(prompts, capacity=200)
    written = [text.tolist() for text in prompts]
    for _ in range(4):
        tree = tree_for([np.array(text) for text in written], generator)
        rows = target.score(tree)
        paths = []
        for row, text in enumerate(written):
            for node in range(int(tree.num_nodes[row])):
                expected = plain_logits(model, text + path_tokens(tree, row, node))
                torch.testing.assert_close(rows[row, node], expected, **TOLERANCE)
            last = int(generator.integers(tree.num_nodes[row]))
            path = [node for node in range(1, last + 1) if tree.ancestors()[row, last, node]]
            paths.append(path)
            written[row] = text + path_tokens(tree, row, last) + [7]
        padded = np.full((len(paths), 4), -1)
        for row, path in enumerate(paths):
            padded[row, : len(path)] = path
        target.commit(padded, np.ones(len(paths), dtype=bool))


def test_a_finished_slot_does_not_move(model):
    target = Target(model)
    target.start(texts((4, 4)), capacity=64)
    tree = tree_for(texts((4, 4)), np.random.default_rng(0))
    target.score(tree)
    target.commit(np.full((2, 0), -1), np.array([True, False]))
    assert model.lengths.tolist() == [4, 3]


def test_a_long_prompt_is_read_in_chunks_with_the_same_result():
    model = tiny.llama()
    model.context_length = 4 * CHUNK
    (text,) = texts((2 * CHUNK + 3,))
    model.open(1, 3 * CHUNK)
    (row,) = append_text(model, [text])
    torch.testing.assert_close(row, plain_logits(model, text.tolist()), **TOLERANCE)


def test_a_reopened_cache_forgets_the_texts_before(model):
    for _ in range(2):
        model.open(2, 40)
        rows = append_text(model, [np.array([1, 2, 3]), np.array([4])])
        torch.testing.assert_close(rows[0], plain_logits(model, [1, 2, 3]), **TOLERANCE)
        torch.testing.assert_close(rows[1], plain_logits(model, [4]), **TOLERANCE)
