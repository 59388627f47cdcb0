"""The n-gram model answers with the smoothed counts of the current text, and a path does not change it."""

from math import log

import numpy as np
import pytest
from treewright.runtime.drafters.ngrams.model import ORDER, UNSEEN, NgramModel

VOCABULARY = 4


def by_hand(text, token):
    """Witten and Bell's recursion, counted anew."""
    prob = UNSEEN
    for size in range(min(ORDER, len(text)) + 1):
        found = followers(text, size)
        if not found:
            break
        distinct = len(set(found))
        prob = (found.count(token) + distinct * prob) / (len(found) + distinct)
    return prob


def followers(text, size):
    """What followed the last `size` tokens of the text before."""
    context = text[len(text) - size :]
    return [text[end] for end in range(size, len(text)) if text[end - size : end] == context]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 60])
def test_log_probs_are_the_smoothed_counts_of_the_text(length):
    text = np.random.default_rng(length).integers(VOCABULARY, size=length).tolist()
    log_probs = NgramModel(text).behind((), range(VOCABULARY)).log_probs
    np.testing.assert_allclose(log_probs[:-1], [log(by_hand(text, token)) for token in range(VOCABULARY)])


@pytest.mark.parametrize("candidates", [[], [0], [1, 3], [0, 1, 2]])
def test_it_names_the_most_frequent_follower_besides_the_candidates(candidates):
    generator = np.random.default_rng(3)
    for length in (1, 2, 3, 10, 60):
        text = generator.integers(VOCABULARY, size=length).tolist()
        found = NgramModel(text).behind((), candidates)
        for size in range(min(ORDER, length - 1), 0, -1):
            others = [token for token in followers(text, size) if token not in candidates]
            if others:
                assert others.count(found.token) == max(map(others.count, others))
                np.testing.assert_allclose(found.log_probs[-1], log(by_hand(text, found.token)))
                break
        else:
            assert found.token == -1


def test_a_repeated_text_expects_its_own_next_token():
    text = [*range(20), *range(10)]
    found = NgramModel(text).behind((), [11, 12])
    assert found.token == 10
    assert found.log_probs[2] == found.top_log_prob > log(0.5) > found.log_probs[0]


def test_where_the_drafter_expects_the_same_it_adds_nothing():
    found = NgramModel([*range(20), *range(10)]).behind((), [10, 11])
    assert found.token == -1
    assert found.log_probs[0] == found.top_log_prob


def test_a_token_never_seen_before_expects_nothing():
    found = NgramModel([1, 2, 3, 99]).behind((), [1])
    assert found.token == -1
    assert found.top_log_prob == log(UNSEEN) < found.log_probs[0]


@pytest.mark.parametrize("drafted", range(8))
def test_behind_a_path_it_answers_as_if_the_path_were_text(drafted):
    generator = np.random.default_rng(drafted)
    for length in (0, 1, 2, 5, 30):
        text = generator.integers(VOCABULARY, size=length).tolist()
        path = generator.integers(VOCABULARY, size=drafted).tolist()
        for candidates in ([], [2], [0, 1, 3]):
            behind = NgramModel(text).behind(path, candidates)
            assert behind == NgramModel([*text, *path]).behind((), candidates)
