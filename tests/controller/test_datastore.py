"""The datastore knows what followed every context of every text, and nothing across their ends."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from treewright.runtime.drafters.ngrams.datastore import ORDER, Datastore

VOCABULARY = 3


def by_hand(texts, context):
    size = len(context)
    return Counter(
        text[end] for text in texts for end in range(size, len(text)) if tuple(text[end - size : end]) == context
    )


@pytest.mark.parametrize("lengths", [(), (0,), (1,), (5, 0, 1, 40), (200,)], ids=str)
def test_followers_are_those_counted_one_by_one(lengths):
    generator = np.random.default_rng(0)
    texts = [generator.integers(VOCABULARY, size=length).tolist() for length in lengths]
    datastore = Datastore.of(texts)
    for size in range(1, ORDER + 1):
        for context in product(range(VOCABULARY + 1), repeat=size):  # one token more than there is
            assert datastore.followers(context) == by_hand(texts, context)


def test_large_token_ids_keep_apart():
    texts = [[151_000, 7, 151_643, 8], [7, 151_643, 9]]
    assert Datastore.of(texts).followers((7, 151_643)) == {8: 1, 9: 1}
    assert Datastore.of(texts).followers((151_000, 7, 151_643)) == {8: 1}
