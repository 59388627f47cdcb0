"""Which recorded texts tune policies, which compare them, and which are replayed together."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from ..controller.contract import COUPLED


class Text(Protocol):
    @property
    def document(self) -> int: ...

    @property
    def temperature(self) -> float: ...


AnyText = TypeVar("AnyText", bound=Text)


def by_document(
    texts: Mapping[str, Sequence[AnyText]], held_out: Collection[int]
) -> tuple[dict[str, list[AnyText]], dict[str, list[AnyText]]]:
    """Texts by law: of documents the network was trained on, and of held-out ones; laws without any left out."""
    sides: tuple[dict[str, list[AnyText]], dict[str, list[AnyText]]] = ({}, {})
    for law, of_law in texts.items():
        for text in of_law:
            sides[text.document in held_out].setdefault(law, []).append(text)
    return sides


def by_setting(texts: Mapping[str, Sequence[AnyText]]) -> list[tuple[str, float, list[AnyText]]]:
    """(law, temperature, texts); greedy texts under one law only, for there both laws are the same."""
    found = []
    for law, of_law in texts.items():
        for temperature in sorted({round(text.temperature, 3) for text in of_law}):
            if temperature > 0 or law == COUPLED.name:
                found.append((law, temperature, [text for text in of_law if round(text.temperature, 3) == temperature]))
    return found
