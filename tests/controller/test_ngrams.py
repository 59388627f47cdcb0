"""The n-gram model answers with the smoothed counts of the text as it stands, and a tree leaves it as it was."""

from math import log

import numpy as np
import pytest
import trees
from treewright.controller.ngrams import ORDER, UNSEEN, NgramModel, node_ngrams

VOCABULARY = 4


def by_hand(text, token):
    """Witten and Bell's recursion, counted anew."""
    prob = UNSEEN
    for size in range(min(ORDER, len(text)) + 1):
        context = text[len(text) - size :]
        followers = [text[end] for end in range(size, len(text)) if text[end - size : end] == context]
        if not followers:
            break
        distinct = len(set(followers))
        prob = (followers.count(token) + distinct * prob) / (len(followers) + distinct)
    return prob


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 60])
def test_log_probs_are_the_smoothed_counts_of_the_text(length):
    text = np.random.default_rng(length).integers(VOCABULARY, size=length).tolist()
    log_probs, _ = NgramModel(text).log_probs(range(VOCABULARY))
    np.testing.assert_allclose(log_probs, [log(by_hand(text, token)) for token in range(VOCABULARY)])


def test_a_repeated_text_expects_its_own_next_token():
    text = [*range(20), *range(10)]
    log_probs, top = NgramModel(text).log_probs([10, 11])
    assert log_probs[0] == top > log(0.5) > log_probs[1]


def test_a_token_never_seen_before_expects_nothing():
    log_probs, top = NgramModel([1, 2, 3, 99]).log_probs([1])
    assert top == log(UNSEEN) < log_probs[0]


@pytest.mark.parametrize("drafted", range(8))
def test_behind_a_path_it_answers_as_if_the_path_were_text(drafted):
    generator = np.random.default_rng(drafted)
    for length in (0, 1, 2, 5, 30):
        text = generator.integers(VOCABULARY, size=length).tolist()
        path = generator.integers(VOCABULARY, size=drafted).tolist()
        behind = NgramModel(text).log_probs(range(VOCABULARY), path)
        assert behind == NgramModel([*text, *path]).log_probs(range(VOCABULARY))


def test_a_node_is_asked_about_behind_its_own_path():
    generator = np.random.default_rng(1)
    tree = trees.random_tree(generator, batch=3, levels=4)
    texts = [[*generator.integers(100, size=40).tolist(), *tree.tokens[row].tolist()] for row in range(3)]
    models = [NgramModel(text) for text in texts]
    values = node_ngrams(tree, models)
    for row, count in enumerate(tree.num_nodes.tolist()):
        assert not values[row, 0].any()
        assert not values[row, count:].any()
        for node in range(1, count):
            path, above = [], int(tree.parents[row, node])
            while above:
                path.insert(0, int(tree.tokens[row, above]))
                above = int(tree.parents[row, above])
            (log_prob,), top = NgramModel([*texts[row], *path]).log_probs([int(tree.tokens[row, node])])
            np.testing.assert_array_equal(values[row, node], np.float32([log_prob, top]))
    np.testing.assert_array_equal(node_ngrams(tree, models, first=3), values[:, 3:])
