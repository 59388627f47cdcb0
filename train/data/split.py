"""The split of documents into training, validation and test, and the grouping of recorded texts for replay."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np

from ...controller.plans.setting import Setting
from ...controller.trees.tree import Array

SIDES = ("training", "validation", "test")
TRAINING = SIDES.index("training")


class Text(Protocol):
    @property
    def document(self) -> int: ...

    @property
    def temperature(self) -> float: ...


AnyText = TypeVar("AnyText", bound=Text)


@dataclass(frozen=True)
class DocumentSplit:
    """Numbers of the validation and test documents; all others are for training. See `positions.document_number`.

    Fits and settings are chosen on `validation`, and results are measured on `test`, so that no result is biased by
    the choice.
    """

    validation: Array
    test: Array

    @classmethod
    def of(cls, documents: Iterable[int], validation_share: float, test_share: float) -> Self:
        """Those shares of the documents, the lowest numbers first, at least one each."""
        numbers = np.array(sorted(documents), dtype=np.int64)
        num_test, num_validation = (max(1, round(share * len(numbers))) for share in (test_share, validation_share))
        return cls(numbers[num_test : num_test + num_validation], numbers[:num_test])

    def sides(self, documents: Array) -> Array:
        """[n]: index in SIDES of each of `documents` [n]."""
        return np.isin(documents, self.validation) + 2 * np.isin(documents, self.test)


def by_document(
    texts: Mapping[str, Sequence[AnyText]], split: DocumentSplit
) -> tuple[dict[str, list[AnyText]], dict[str, list[AnyText]], dict[str, list[AnyText]]]:
    """Texts by scheme, of each side in the order of SIDES; schemes without texts are left out."""
    parts: tuple[dict[str, list[AnyText]], dict[str, list[AnyText]], dict[str, list[AnyText]]] = ({}, {}, {})
    for scheme, of_scheme in texts.items():
        for side, text in zip(split.sides(np.array([text.document for text in of_scheme])), of_scheme, strict=True):
            parts[side].setdefault(scheme, []).append(text)
    return parts


def by_setting(texts: Mapping[str, Sequence[AnyText]], own_scheme: str) -> dict[Setting, list[AnyText]]:
    """Texts by setting, in the order of the schemes and of rising temperature.

    `texts` are by scheme, greedy ones under every scheme. As all schemes draft the same for those, they are taken under
    the selector's `own_scheme` only.
    """
    groups: dict[Setting, list[AnyText]] = {}
    for scheme, of_scheme in texts.items():
        for text in of_scheme:
            setting = Setting(scheme, text.temperature)
            if setting.temperature > 0 or scheme == own_scheme:
                groups.setdefault(setting, []).append(text)
    schemes = list(texts)
    return dict(sorted(groups.items(), key=lambda group: (schemes.index(group[0].scheme), group[0].temperature)))
