"""Ranges of settings."""

import pytest
from treewright.controller.errors import InputError
from treewright.controller.ranges import require_above, require_at_least, require_between, require_some


@pytest.mark.parametrize(
    ("check", "inside", "outside"),
    [
        (lambda value: require_at_least("depth", value, 1), [1, 2, 1e9], [0.999, -1]),
        (lambda value: require_above("rate", value, 0), [1e-300, 5], [0, -1]),
        (lambda value: require_between("share", value, 0, 1), [0, 0.5, 1], [-1e-9, 1.001]),
    ],
)
def test_a_range_contains_its_bounds_and_finite_numbers_only(check, inside, outside):
    for value in inside:
        check(value)
    for value in [*outside, float("nan"), float("inf"), float("-inf")]:
        with pytest.raises(InputError, match=r"^(depth|rate|share) is .*, got "):
            check(value)


def test_an_empty_list_is_refused():
    require_some("batches", (1,))
    with pytest.raises(InputError, match="batches names nothing"):
        require_some("batches", ())
