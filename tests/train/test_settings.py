"""Every setting of a fit has its range, and says in one sentence where it was left."""

from dataclasses import fields
from math import inf, nan

import pytest
from treewright.controller.errors import InputError
from treewright.controller.ranges import LARGEST_SEED, MOST_THREADS
from treewright.train.fit.settings import LARGEST_HIDDEN_SIZE, FitConfig

SHARE = ([1e-9, 0.79], [0, -0.5, 1, 1.5, nan, inf])
# Values within the range up to its edges, and beyond them.
RANGES = {
    "hidden_size": ([1, LARGEST_HIDDEN_SIZE], [0, -1, LARGEST_HIDDEN_SIZE + 1]),
    "learning_rate": ([1e-12, 1e9], [0, -1, nan, inf]),
    "batch_size": ([1, 10**9], [0, -1]),
    "max_epochs": ([1, 10**6], [0, -1]),
    "row_share": ([1e-9, 1], [0, -0.1, 1.001, nan, inf]),
    "patience": ([1, 10**6], [0, -1]),
    "validation_share": SHARE,
    "test_share": SHARE,
    "threads": ([1, MOST_THREADS], [0, -1, MOST_THREADS + 1]),
    "seed": ([0, LARGEST_SEED], [-1, LARGEST_SEED + 1]),
}


def test_every_number_has_a_range():
    assert RANGES.keys() == {field.name for field in fields(FitConfig) if type(field.default) is not bool}


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_is_taken_up_to_its_edges_and_refused_beyond(name):
    inside, outside = RANGES[name]
    for value in inside:
        assert getattr(FitConfig(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=rf"fit\.{name} .*got .*{value}"):
            FitConfig(**{name: value})


def test_documents_to_train_on_are_left():
    FitConfig(validation_share=0.5, test_share=0.49)
    with pytest.raises(InputError, match=r"together must be below 1, .* got 0\.5 and 0\.5"):
        FitConfig(validation_share=0.5, test_share=0.5)
