"""What becomes of the measured medians."""

from treewright.collect.measure.profile import rising


def test_costs_that_rise_with_size_stay_as_measured():
    assert rising([1.0, 1.0, 2.5, 4.0]) == (1.0, 1.0, 2.5, 4.0)


def test_a_larger_size_that_measured_cheaper_shares_its_cost_with_the_smaller_one():
    assert rising([10.0, 14.0, 12.0, 20.0]) == (10.0, 13.0, 13.0, 20.0)
