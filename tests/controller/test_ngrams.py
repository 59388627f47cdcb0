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
    contexts = NgramModel(text).contexts(())
    for token in range(VOCABULARY):
        np.testing.assert_allclose(contexts.log_prob(token), log(by_hand(text, token)))


def other(contexts, candidates):
    """The first expected token that is no candidate, found among one more than there are; -1 if there is none."""
    return next((token for token in contexts.expected(len(candidates) + 1) if token not in candidates), -1)


@pytest.mark.parametrize("candidates", [[], [0], [1, 3], [0, 1, 2]])
def test_it_names_the_most_frequent_follower_besides_the_candidates(candidates):
    generator = np.random.default_rng(3)
    for length in (1, 2, 3, 10, 60):
        text = generator.integers(VOCABULARY, size=length).tolist()
        contexts = NgramModel(text).contexts(())
        token = other(contexts, candidates)
        for size in range(min(ORDER, length - 1), 0, -1):
            others = [follower for follower in followers(text, size) if follower not in candidates]
            if others:
                assert others.count(token) == max(map(others.count, others))
                np.testing.assert_allclose(contexts.log_prob(token), log(by_hand(text, token)))
                break
        else:
            assert token == -1


def test_fewer_are_expected_in_the_same_order():
    text = np.random.default_rng(5).integers(9, size=200).tolist()
    contexts = NgramModel(text).contexts(())
    every = contexts.expected(20)
    assert len(every) == len(set(every)) > 3
    assert all(contexts.expected(count) == every[:count] for count in range(len(every)))


def test_a_repeated_text_expects_its_own_next_token():
    text = [*range(20), *range(10)]
    contexts = NgramModel(text).contexts(())
    assert other(contexts, [11, 12]) == 10
    forecast = contexts.forecast(3)
    rank, of_tokens = forecast.besides([11, 12])
    assert rank == 0
    assert of_tokens[2] == forecast.top_log_prob > log(0.5) > of_tokens[0]


def test_where_the_drafter_expects_the_same_it_adds_nothing():
    contexts = NgramModel([*range(20), *range(10)]).contexts(())
    assert other(contexts, [10, 11]) == -1
    forecast = contexts.forecast(3)
    rank, of_tokens = forecast.besides([10, 11])
    assert rank == -1
    assert of_tokens[0] == forecast.top_log_prob


def test_a_token_never_seen_before_expects_nothing():
    contexts = NgramModel([1, 2, 3, 99]).contexts(())
    assert contexts.expected(2) == []
    assert contexts.forecast(2).top_log_prob == log(UNSEEN) < contexts.log_prob(1)


@pytest.mark.parametrize("drafted", range(8))
def test_behind_a_path_it_answers_as_if_the_path_were_text(drafted):
    generator = np.random.default_rng(drafted)
    for length in (0, 1, 2, 5, 30):
        text = generator.integers(VOCABULARY, size=length).tolist()
        path = generator.integers(VOCABULARY, size=drafted).tolist()
        behind, as_text = NgramModel(text).contexts(path), NgramModel([*text, *path]).contexts(())
        assert behind.expected(9) == as_text.expected(9)
        assert behind.forecast(9) == as_text.forecast(9)
        for token in range(VOCABULARY):
            assert behind.log_prob(token) == as_text.log_prob(token)
