"""The statistics of a comparison."""

import pytest
from treewright.collect.bench.measure import worst_decile


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.5], 0.5), ([2.0, 0.5, 1.0], 0.5), ([float(n) for n in range(20, 0, -1)], 1.5), ([1.0] * 10 + [0.25], 0.625)],
)
def test_the_worst_decile_is_the_mean_of_the_lowest_tenth(ratios, expected):
    assert worst_decile(ratios) == expected
