"""Which texts are replayed together: by scheme and temperature, greedy ones under the selector's own scheme."""

from typing import NamedTuple

import pytest
from treewright.controller.plans.setting import Setting
from treewright.train.data.split import DocumentSplit, by_document, by_setting


class Text(NamedTuple):
    document: int
    temperature: float


COLD, WARM, HOT = Text(1, 0.0), Text(2, 0.6), Text(3, 1.0)
TEXTS = {"coupled": [HOT, COLD, WARM], "fixed": [COLD, WARM]}


@pytest.mark.parametrize("scheme", ["coupled", "fixed"])
def test_greedy_texts_are_grouped_under_the_selectors_own_scheme(scheme):
    groups = by_setting(TEXTS, scheme)
    assert groups == {
        Setting(scheme, 0.0): [COLD],
        Setting("coupled", 0.6): [WARM],
        Setting("coupled", 1.0): [HOT],
        Setting("fixed", 0.6): [WARM],
    }


def test_the_schemes_keep_their_order_and_temperatures_rise():
    assert list(by_setting(TEXTS, "coupled")) == [
        Setting("coupled", 0.0),
        Setting("coupled", 0.6),
        Setting("coupled", 1.0),
        Setting("fixed", 0.6),
    ]


def test_temperatures_that_differ_in_their_storage_alone_are_one():
    almost = Text(4, 0.6000000238)
    assert by_setting({"coupled": [WARM, almost]}, "coupled") == {Setting("coupled", 0.6): [WARM, almost]}


def test_every_side_gets_its_texts_by_scheme():
    split = DocumentSplit.of([1, 2, 3], validation_share=0.3, test_share=0.3)
    assert (split.test.tolist(), split.validation.tolist()) == ([1], [2])
    training, validation, test = by_document(TEXTS, split)
    assert (training, validation) == ({"coupled": [HOT]}, {"coupled": [WARM], "fixed": [WARM]})
    assert test == {"coupled": [COLD], "fixed": [COLD]}
