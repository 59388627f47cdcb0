"""Which tree rows a row attends to, against a walk from each row to its first ancestor."""

import numpy as np
import pytest
import tiny
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.ancestry import NO_ROWS, extended
from treewright.runtime.engines.base import chain
from treewright.runtime.engines.transformers.model import TransformersModel


def ancestors(parents, row):
    """The row itself included."""
    rows = set()
    while row >= 0:
        rows.add(int(row))
        row = parents[row]
    return rows


def test_rows_of_several_forwards_attend_to_their_ancestors_and_themselves():
    generator = np.random.default_rng(0)
    for _ in range(20):
        seen, parents = NO_ROWS, np.zeros((3, 0), dtype=np.int64)
        for num_new in generator.integers(1, 9, size=3).tolist():
            news = np.arange(parents.shape[1], parents.shape[1] + num_new)
            parents = np.concatenate((parents, generator.integers(-1, news, size=(3, num_new))), axis=1)
            seen = extended(seen, parents[:, -num_new:])
            for tree, above in enumerate(parents):
                for row in range(len(above)):
                    assert set(np.nonzero(seen[tree, row])[0].tolist()) == ancestors(above, row)


def test_plain_text_attends_to_all_before_it_and_padding_to_itself():
    real = np.arange(5) >= np.array([0, 2, 5])[:, None]
    seen = extended(NO_ROWS, chain(real))
    for each, begin in zip(seen, (0, 2, 5), strict=True):
        expected = np.eye(5, dtype=bool)
        expected[begin:, begin:] = np.tri(5 - begin, dtype=bool)
        assert (each == expected).all()


class ChainModel(TransformersModel):
    """An engine that verifies one path at a time."""

    max_leaves: int | None = 1


@pytest.mark.parametrize("limits", [TreeLimits(3, 2, 2, 6), TreeLimits(3, 1, 1, 3, ngrams=True)])
def test_trees_of_more_leaves_than_the_engine_has_are_refused(limits):
    target = ChainModel(tiny.llama().model, tiny.VOCABULARY_SIZE)
    with pytest.raises(InputError, match="at most 1 leaves, and the trees asked for may have"):
        tiny.decoder(target, tiny.llama(), Selector(ConfidenceScorer(), limits))


def test_an_engine_of_one_leaf_verifies_chains():
    target = ChainModel(tiny.llama().model, tiny.VOCABULARY_SIZE)
    decoder = tiny.decoder(target, tiny.llama(noise=0.02), Selector(ConfidenceScorer(), TreeLimits(3, 1, 1, 3)))
    requests = tiny.requests(2, 0.8)
    plain = tiny.decoder(tiny.llama()).generate(requests)[0]
    assert [text.token_ids for text in decoder.generate(requests)[0]] == [text.token_ids for text in plain]
