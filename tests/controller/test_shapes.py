"""Static trees in the notations of other engines."""

import pytest
from treewright.controller.trees.shapes import chain, parse_paths


def test_both_spellings_read_alike():
    assert parse_paths("[(0,), (0, 0), (1,)]") == parse_paths("[[1], [0], [0, 0]]") == [(0,), (1,), (0, 0)]


def test_a_chain_is_its_prefixes():
    assert chain(3) == [(0,), (0, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[(0, 0)]", "without its parent"),
        ("[]", "at least one path"),
        ("[(-1,)]", "one rank from 0 to 1048575"),
        ("[(1048576,)]", "one rank from 0 to 1048575"),
        ("[()]", "one rank"),
        ("5", "list of paths"),
        ("not a tree", "list of paths"),
        ("[('a',)]", "list of paths"),
        ("[(0.9,)]", "list of paths"),
        ("[(True,)]", "list of paths"),
        ("[(1e999,)]", "list of paths"),
        ("[" * 10_000, "list of paths"),
    ],
)
def test_a_bad_tree_is_refused_in_a_sentence(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_paths(text)
