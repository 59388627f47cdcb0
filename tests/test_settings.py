"""Every configuration class that a command takes validates itself wherever it is made."""

import dataclasses
import typing

import pytest
from treewright import cli
from treewright.controller.errors import InputError
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.generate import TextOptions


def configuration_classes():
    """Of all commands; those nested in others are checked by them."""
    found = set()
    for command in cli.COMMANDS:
        loaded = cli.load(command)
        for function in loaded.values() if isinstance(loaded, dict) else [loaded]:
            found |= {kind for kind in typing.get_type_hints(function).values() if dataclasses.is_dataclass(kind)}
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", configuration_classes(), ids=lambda kind: kind.__name__)
def test_it_checks_its_fields(kind):
    assert "__post_init__" in vars(kind)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (TextOptions, {"temperature": -1.0}, "temperature is between 0 and 100"),
        (TextOptions, {"temperature": float("nan")}, "temperature is between 0 and 100"),
        (TextOptions, {"top_k": -1}, "top_k is 0"),
        (TextOptions, {"top_p": 0.0}, "top_p is above 0"),
        (TextOptions, {"top_p": 1.1}, "top_p is above 0"),
        (TextOptions, {"max_tokens": 0}, "text.max_tokens is at least 1, got 0"),
        (TextOptions, {"seed": -1}, "seed is between 0"),
        (TextOptions, {"seed": 2**64}, "seed is between 0"),
        (TextOptions, {"stop": ("a", "")}, "text.stop holds an empty string"),
        (TreeLimits, {"max_depth": 0}, "limits.max_depth is at least 1, got 0"),
        (TreeLimits, {"width": 0}, "limits.width is at least 1, got 0"),
        (TreeLimits, {"frontier": 0}, "limits.frontier is at least 1, got 0"),
        (TreeLimits, {"budget": -1}, "limits.budget is at least 0, got -1"),
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(**fields)


def test_the_edges_of_the_ranges_are_taken():
    TextOptions(temperature=0.0, top_k=0, top_p=1.0, max_tokens=1, seed=2**64 - 1)
    TreeLimits(max_depth=1, width=1, frontier=1, budget=0)
