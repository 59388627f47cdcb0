"""A model whose forwards fail for one of the texts, which is recognised by the room it asks for."""

from torch import Tensor
from treewright.runtime.engines.base import CHUNK, CachedModel, Session
from treewright.runtime.engines.copying import CopyingModel


class FailingModel:
    """A `CachedModel` around another one. A text of prompt and `max_tokens` of `marked` tokens cannot get beyond
    `max_length` committed rows, or cannot even join where that is negative. `crowded` texts side by side fail too.

    step_rows: what a step takes besides (see `Loop.num_rows`); by default one of plain decoding."""

    def __init__(self, model: CachedModel, *, marked=0, max_length=0, crowded=1000, step_rows=CHUNK + 1):
        self._model = model
        self.vocabulary_size = model.vocabulary_size
        self.context_length = model.context_length
        self.device = model.device
        self.packs = model.packs
        self.max_leaves: int | None = model.max_leaves
        self.hidden_layers: tuple[int, ...] = model.hidden_layers
        self.session: Session | None = None
        self.hidden: Tensor | None = None
        self.last_layer: int | None = model.last_layer
        self._marked = marked
        self._max_length = max_length
        self._crowded = crowded
        self._step_rows = step_rows
        self._rooms: list[int] = []  # of the slots

    @property
    def lengths(self):
        return self._model.lengths

    @property
    def cache(self):
        assert isinstance(self._model, CopyingModel)
        return self._model.cache

    def open(self, num_slots, capacity, session=None):
        self._rooms = []
        self._model.open(num_slots, capacity, session)
        self.session = session

    def has_room(self, capacity):
        return self._model.has_room(capacity)

    def prepare(self, num_slots, num_rows):
        self._model.prepare(num_slots, num_rows)

    def join(self, capacity):
        self._model.join(capacity)
        self._rooms.append(capacity - self._step_rows)
        if self._max_length < 0 and self._rooms[-1] == self._marked:
            raise MemoryError("there is no room for this text")

    def keep(self, slots):
        self._model.keep(slots)
        self._rooms = [self._rooms[slot] for slot in slots]

    def forward(self, tokens, positions, parents, *, first_slot=0, **options):
        self._model.hidden_layers = self.hidden_layers
        logits = self._model.forward(tokens, positions, parents, first_slot=first_slot, **options)
        self.hidden = self._model.hidden
        for slot in range(first_slot, first_slot + len(tokens)):
            if self._rooms[slot] == self._marked and self._model.lengths[slot] > self._max_length:
                raise RuntimeError("this text was made to fail")
        if len(tokens) >= self._crowded:
            raise MemoryError("there is no room for so many texts")
        return logits

    def commit(self, rows):
        self._model.commit(rows)
