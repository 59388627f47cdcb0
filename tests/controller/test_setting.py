"""A setting is equal to another wherever the temperature was stored."""

from typing import cast

import numpy as np
from treewright.controller.plans.setting import Setting, temperature_key, temperature_title

STORED = cast(float, np.float32(0.6))  # numbers of a trace arrive without a type


def test_a_temperature_stored_as_float32_is_the_one_that_was_typed():
    assert Setting("coupled", STORED) == Setting("coupled", 0.6)
    assert {Setting("coupled", 0.6000000238): "tuned"}[Setting("coupled", 0.6)] == "tuned"


def test_keys_and_titles_format_it_alike():
    assert [temperature_key(value) for value in (0.0, 1.0, STORED, 0.125)] == ["0", "1", "0.6", "0.125"]
    assert temperature_title(1.0) == "T = 1"
