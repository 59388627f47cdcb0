"""What commands show on stderr while they work."""

import pytest
from treewright.controller.console import rate_text, track


@pytest.mark.parametrize(
    ("items_per_second", "text"),
    [(None, ""), (0.0, ""), (12.34, "12.3/s"), (1.0, "1.0/s"), (0.5, "2.0 s each"), (0.025, "40.0 s each")],
)
def test_slow_items_are_counted_in_seconds_each(items_per_second, text):
    assert rate_text(items_per_second) == text


def test_a_finished_display_says_how_fast_it_was(capsys):
    assert [*track([1, 2, 3], "items")] == [1, 2, 3]
    output = capsys.readouterr()
    assert "3/3" in output.err
    assert "/s" in output.err
    assert output.out == ""
