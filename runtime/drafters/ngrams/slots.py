"""The n-grams of the texts in a drafter's slots."""

from collections.abc import Iterable, Sequence

from ....controller.trees.tree import Array
from .datastore import Datastore
from .model import NgramModel


class SlotNgrams:
    """A model of each slot's text up to its root; where a text expects nothing, a `datastore` is asked."""

    def __init__(self, datastore: Datastore | None = None):
        self._datastore = datastore
        self.models: list[NgramModel] = []

    def open(self) -> None:
        """Empty all slots."""
        self.models = []

    def join(self, text: Array) -> None:
        self.models.append(NgramModel(text.tolist(), self._datastore))

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the others leave."""
        self.models = [self.models[slot] for slot in slots]

    def extend(self, slot: int, tokens: Iterable[int]) -> None:
        """The slot's text goes on."""
        self.models[slot].extend(tokens)
