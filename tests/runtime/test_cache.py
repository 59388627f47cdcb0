"""Tree rows through the preallocated cache equal plain forwards, in float64."""

import numpy as np
import pytest
import tiny
import torch
from trees import random_tree
from treewright.runtime.engines.base import CHUNK, FEW, append_text, append_texts
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


def path_to(tree, row, node):
    path = []
    while node > 0:
        path.append(node)
        node = int(tree.parents[row, node])
    return path[::-1]


def path_tokens(tree, row, node):
    return tree.tokens[row, path_to(tree, row, node)].tolist()


@pytest.mark.parametrize("lengths", [(9,), (5, 5), (4, 11, 1)], ids=str)
def test_every_node_has_the_logits_of_its_path_step_after_step(model, lengths):
    prompts = texts(lengths)
    generator = np.random.default_rng(5)
    target = Target(model)
    target.open()
    for text in prompts:
        target.join(text, capacity=200)
    generated = [text.tolist() for text in prompts]
    for _ in range(4):
        tree = tree_for([np.array(text) for text in generated], generator)
        rows = target.score(tree)
        paths = []
        for row, text in enumerate(generated):
            for node in range(int(tree.num_nodes[row])):
                expected = plain_logits(model, text + path_tokens(tree, row, node))
                torch.testing.assert_close(rows[row, node], expected, **TOLERANCE)
            last = int(generator.integers(tree.num_nodes[row]))
            path = path_to(tree, row, last)
            paths.append(path)
            generated[row] = text + path_tokens(tree, row, last) + [7]
        padded = np.full((len(paths), 4), -1)
        for row, path in enumerate(paths):
            padded[row, : len(path)] = path
        target.commit(padded)


def test_a_long_prompt_is_read_in_chunks_with_the_same_result():
    model = tiny.llama()
    model.context_length = 4 * CHUNK
    (text,) = texts((2 * CHUNK + 3,))
    model.open(1, 3 * CHUNK)
    row = append_text(model, 0, text)
    torch.testing.assert_close(row, plain_logits(model, text.tolist()), **TOLERANCE)


def test_a_reopened_cache_forgets_the_texts_before(model):
    for _ in range(2):
        model.open(2, 40)
        rows = append_texts(model, [np.array([1, 2, 3]), np.array([4])])
        torch.testing.assert_close(rows[0], plain_logits(model, [1, 2, 3]), **TOLERANCE)
        torch.testing.assert_close(rows[1], plain_logits(model, [4]), **TOLERANCE)


def test_a_long_text_among_short_ones_is_read_without_padding_them(model):
    model.open(3, 200)
    long, short = texts((FEW + 5, 2))
    rows = append_texts(model, [long, short, short[:0]])
    assert model.lengths.tolist() == [len(long), 2, 0]
    for row, text in zip(rows[:2], (long, short), strict=True):
        torch.testing.assert_close(row, plain_logits(model, text.tolist()), **TOLERANCE)


def test_a_slot_of_its_own_is_read_beside_others(model):
    model.open(2, 40)
    first, second = texts((7, 5))
    append_text(model, 1, second[:3])
    append_text(model, 0, first[:-1])
    for slot, text, rest in ((1, second, 3), (0, first, -1)):
        row = append_text(model, slot, text[rest:])
        torch.testing.assert_close(row, plain_logits(model, text.tolist()), **TOLERANCE)


def test_nothing_may_be_committed_of_all_slots_behind_the_text_of_one(model):
    model.open(2, 40)
    append_text(model, 1, np.array([1, 2, 3]))
    model.commit(np.full((2, 1), -1))
    assert model.lengths.tolist() == [0, 3]


def test_the_last_text_continues_in_the_slot_of_one_that_left(model):
    model.open(0, 0)
    stored = texts((4, 9, 6))
    for slot, text in enumerate(stored):
        model.join(capacity=12 + slot)  # the storage has to grow
        append_text(model, slot, text)
    model.keep([2, 1])
    assert model.lengths.tolist() == [6, 9]
    rows = append_texts(model, [np.array([1]), np.array([2, 3])])
    torch.testing.assert_close(rows[0], plain_logits(model, [*stored[2].tolist(), 1]), **TOLERANCE)
    torch.testing.assert_close(rows[1], plain_logits(model, [*stored[1].tolist(), 2, 3]), **TOLERANCE)
