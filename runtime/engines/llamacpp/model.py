"""A GGUF model as a `CachedModel`: a whole tree in one call of llama.cpp, with a sequence for each of its leaves."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ...machine.processor import processor_name
from ...pair_config import LLAMACPP
from ..base import Session
from .config import MOST_IDS, LlamaCppConfig
from .context import Context
from .fingerprint import fingerprint
from .sequences import Sequences

NO_ROWS = np.zeros(0, dtype=np.int64)


class LlamaCppModel:
    """A `LoadedModel` (see `base`) that skips the padding of a block. Threads are torch's."""

    packs = True
    engine = LLAMACPP
    hidden: Tensor | None = None
    last_layer: int | None = None

    def __init__(self, path: str, context: Context, config: LlamaCppConfig, *, vocabulary_size: int, weights: str):
        """weights: the number format of most of them."""
        self.context = context
        self.vocabulary_size = vocabulary_size
        self.context_length = context.length
        self.device = torch.device("cpu")  # where logits come to
        self.session: Session | None = None
        self.hidden_layers: tuple[int, ...] = ()
        flash = ", flash attention" if config.flash_attention else ""
        self.number_format = f"{weights}, {config.cache_type} cache{flash}"
        layers = {0: "", -1: ", all layers on a GPU"}.get(config.gpu_layers, f", {config.gpu_layers} layers on a GPU")
        self.processor = processor_name(self.device) + layers
        self._path, self._most_texts = path, config.texts
        self._sequences = Sequences(context)
        self._capacities: list[int] = []
        self._first_slot, self._num_opened = 0, 0

    @property
    def max_leaves(self) -> int:
        """Of each of the slots it was opened with, or of as many as may join."""
        return MOST_IDS // (self._num_opened or self._most_texts)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self._path)

    @property
    def lengths(self) -> Array:
        return np.array([slot.length for slot in self._sequences.slots], dtype=np.int64)

    def prepare(self, num_slots: int, num_rows: int) -> None:
        """Nothing: the first forward is as fast as the others."""

    def open(self, num_slots: int, capacity: int, session: Session | None = None) -> None:
        self.session = session
        self._num_opened, self._capacities = num_slots, [capacity] * num_slots
        self._require_cells(0)
        self._sequences.open(num_slots)

    def has_room(self, capacity: int) -> bool:
        num_texts = len(self._capacities)
        return num_texts < self._most_texts and sum(self._capacities) + capacity <= self.context.num_cells

    def join(self, capacity: int) -> None:
        if len(self._capacities) >= self._most_texts:
            raise InputError(
                f"llama.cpp was set up for {self._most_texts} texts together; ask for fewer, or raise "
                "pair.llamacpp.texts"
            )
        self._require_cells(capacity)
        self._sequences.join()
        self._capacities.append(capacity)

    def _require_cells(self, capacity: int) -> None:
        needed = sum(self._capacities) + capacity
        if needed > self.context.num_cells:
            raise InputError(
                f"the texts take {needed} cells of llama.cpp's cache together, which has {self.context.num_cells}; "
                "raise pair.llamacpp.context"
            )

    def keep(self, slots: Sequence[int]) -> None:
        self._sequences.keep(list(slots))
        self._capacities = [self._capacities[slot] for slot in slots]

    @torch.inference_mode()
    def forward(
        self,
        tokens: Array,
        positions: Array,
        parents: Array,
        *,
        num_logits: int = 0,
        first_slot: int = 0,
        real: Array | None = None,
    ) -> Tensor:
        """As in `base`; a view of llama.cpp's memory where all rows whose logits are asked for are real."""
        num_slots, num_rows = tokens.shape
        self._first_slot = first_slot
        is_real = np.ones(tokens.shape, dtype=bool) if real is None else real
        slots = self._sequences.slots[first_slot : first_slot + num_slots]
        rows = zip(slots, positions.tolist(), parents.tolist(), is_real.tolist(), strict=True)
        sequences = [of_row for each in rows for of_row in self._sequences.append(*each) if of_row]
        wanted = np.broadcast_to(np.arange(num_rows) >= num_rows - (num_logits or num_rows), tokens.shape)
        logits = self.context.decode(tokens[is_real], positions[is_real], sequences, wanted[is_real])
        num_wanted = num_logits or num_rows
        shape = (num_slots, num_wanted, logits.shape[-1])
        if len(logits) == num_slots * num_wanted:
            return logits.view(shape)
        padded = torch.zeros(shape)
        padded[torch.from_numpy(is_real[:, num_rows - num_wanted :])] = logits
        return padded

    def commit(self, rows: Array) -> None:
        for number, slot in enumerate(self._sequences.slots):
            index = number - self._first_slot
            path = rows[index] if 0 <= index < len(rows) else NO_ROWS
            self._sequences.commit(slot, path[path >= 0].tolist())
