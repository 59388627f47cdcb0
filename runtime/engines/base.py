"""What the decode loop needs of a language model: forwards over tree rows behind a committed text."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...controller.trees.tree import Array

# Tokens of plain text read by one forward: bounds the attention mask and the extra rows of a cache.
CHUNK = 256
# Up to so many tokens, about what a step commits, sequences are read in one padded block however uneven they are.
FEW = 16

Note = Callable[[int, Tensor, Tensor | None], None]
"""Takes, of the slot that is given first, logits [n, V] and hidden states [n, features], if any are kept, of n tokens
that were just read. They lie in the engine's memory: clone what is kept."""


class CachedModel(Protocol):
    """A causal language model with a slot of committed rows per sequence.

    Between two commits, forwards append *tree rows*, numbered 0, 1, ... in the order they were given, to the same
    slots. A row attends to the committed text, to its ancestors and to itself; each engine derives its own mask.
    """

    vocabulary_size: int  # of the tokenizer; rows of logits may be wider
    context_length: int
    device: torch.device
    session: "Session | None"
    """The session that opened it last, which ended the one before"""
    packs: bool
    """Whether a forward skips the rows of a block that are not `real`."""
    hidden_layers: tuple[int, ...]
    """Which hidden states a forward keeps in `hidden`: 0 is the embedding, j the output of layer j - 1, and the last is
    normalised; none by default"""
    hidden: Tensor | None
    """[B, n, features] those of all n rows of the last forward, concatenated"""
    last_layer: int | None
    """The number of the last hidden state, which the logits come from; None where the engine gives none"""

    @property
    def lengths(self) -> Array:
        """[S] int64: committed rows per slot."""
        ...

    @property
    def max_leaves(self) -> int | None:
        """The most leaves that the tree of the rows since the last commit may have, per slot; None: any number."""
        ...

    def prepare(self, num_slots: int, num_rows: int) -> None:
        """Do ahead what the first forwards of up to `num_rows` rows in each of up to `num_slots` slots would do, and
        those with a chunk of a prompt beside."""
        ...

    def open(self, num_slots: int, capacity: int, session: "Session | None" = None) -> None:
        """Begin anew with empty slots, each with room for `capacity` rows, for a `session`."""
        ...

    def has_room(self, capacity: int) -> bool:
        """Whether to `join` one more slot of `capacity` rows now: False while others have the room that it needs."""
        ...

    def join(self, capacity: int) -> None:
        """One more empty slot, behind the others, with room for `capacity` rows at least; InputError where it does not
        fit."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """Move slot `slots[i]`, never a smaller number than i, to slot i; remove the others."""
        ...

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
        """Append n tree rows to each of B slots and return logits [B, n, V], of the last `num_logits` rows if given.
        They may lie in the engine's own memory, which the next forward overwrites: clone what is kept for longer.

        tokens, positions, parents: [B, n] int64, of the slots from `first_slot` on. A parent is one of the m tree rows
        before or an earlier one of these, which are m, m + 1, ...; -1 where it is the committed text. real: [B, n]
        bool, false where rows pad a block; a padding row has parent -1, no children, and is not committed.
        """
        ...

    def commit(self, rows: Array) -> None:
        """Of the slots of these forwards keep tree rows `rows` ([B, A] ascending, -1 behind each slot's last), drop all
        others."""
        ...


class LoadedModel(CachedModel, Protocol):
    """A model of a pair, with what identifies it where its times and texts are kept."""

    engine: str  # its name, as in `pair.engine`
    number_format: str  # of its weights and, where it is another, of cached rows
    processor: str  # what computes its forwards

    @property
    def fingerprint(self) -> str:
        """A hash of configuration and weights, the same wherever the model lies."""
        ...


class Session:
    """The slots of a model, empty at first, until the model is opened again.

    first_token: of a text, the number of the token that the first row of its slot belongs to.
    """

    def __init__(self, model: CachedModel, first_token: int = 0):
        self.first_token = first_token
        self._model = model
        model.open(0, 0, self)

    @property
    def model(self) -> CachedModel:
        """The model; AssertionError where it has been opened again."""
        assert self._model.session is self, "a model was opened for another batch, which ended this one"
        return self._model


def append_text(
    model: CachedModel, slot: int, tokens: Array, note: Note | None = None, num_noted: int = 0
) -> Tensor | None:
    """Commit `tokens` [n] int64 as plain text of one slot; [V] logits after the last, None for no tokens.

    Reads `CHUNK` tokens per forward, so that the mask of a long prompt is not quadratic in its length. Of the last
    `num_noted` tokens, `note` is given the rows.
    """
    last_row: Tensor | None = None
    for start in range(0, len(tokens), CHUNK):
        block = tokens[None, start : start + CHUNK]
        rows = np.arange(block.shape[1])[None]
        wanted = max(1, min(rows.size, start + rows.size - len(tokens) + num_noted))
        logits = model.forward(block, model.lengths[slot] + rows, rows - 1, num_logits=wanted, first_slot=slot)
        if note is not None and start + rows.size > len(tokens) - num_noted:
            note(slot, logits[0], None if model.hidden is None else model.hidden[0, -wanted:])
        model.commit(rows)
        last_row = logits[0, -1]
    return last_row


def append_texts(model: CachedModel, tokens: list[Array], note: Note | None = None, num_noted: int = 0) -> Tensor:
    """The same for the first slots at once, of which some have tokens; [B, V], of which rows of the others mean
    nothing."""
    return append_last(model, tokens, 1, note, num_noted)[:, 0]


def append_last(
    model: CachedModel, tokens: list[Array], num_rows: int, note: Note | None = None, num_noted: int = 0
) -> Tensor:
    """The same, [B, num_rows, V] after the last one or two tokens; a row before the first of some tokens means nothing.

    Sequences longer than a chunk, or that would pad the others to twice the work, are first read alone.
    """
    counts = np.array([len(text) for text in tokens])
    is_even = model.packs or counts.max() * len(tokens) <= 2 * counts.sum()
    alone: dict[int, Tensor] = {}
    for slot in np.nonzero(counts > (CHUNK if is_even else FEW))[0].tolist():
        parts = (tokens[slot][:-1], tokens[slot][-1:]) if num_rows > 1 else (tokens[slot],)
        read = [append_text(model, slot, part, note, num_noted) for part in parts]
        alone[slot], counts[slot] = torch.stack([row.clone() for row in read if row is not None]), 0
    if not counts.any():
        last_rows = next(iter(alone.values())).expand(len(tokens), -1, -1)
    else:
        unread = [text[len(text) - count :] for text, count in zip(tokens, counts, strict=True)]
        last_rows = _append_block(model, unread, num_rows, note, num_noted)
    return torch.stack([alone.get(slot, row) for slot, row in enumerate(last_rows)]) if alone else last_rows


def _append_block(model: CachedModel, tokens: list[Array], num_rows: int, note: Note | None, num_noted: int) -> Tensor:
    """The same, in one forward."""
    block, real = ending_together(tokens)
    counts = real.sum(axis=1)
    positions = model.lengths[: len(tokens), None] + real.cumsum(axis=1) - 1
    wanted = min(max(num_rows, num_noted), block.shape[1])
    logits = model.forward(block, positions, chain(real), num_logits=wanted, real=real)
    if note is not None:
        for slot, count in enumerate(np.minimum(counts, num_noted).tolist()):
            if count:
                note(slot, logits[slot, -count:], None if model.hidden is None else model.hidden[slot, -count:])
    rows = np.arange(block.shape[1])
    model.commit(np.where(rows < counts[:, None], rows + (len(rows) - counts)[:, None], -1))
    return logits[:, -num_rows:] if wanted >= num_rows else logits.expand(-1, num_rows, -1)


def ending_together(texts: Sequence[Array]) -> tuple[Array, Array]:
    """A block of tokens [B, n], padded in front, and [B, n] bool, false at padding."""
    counts = np.array([len(text) for text in texts])
    real = np.arange(counts.max()) >= (counts.max() - counts)[:, None]
    block = np.zeros(real.shape, dtype=np.int64)
    block[real] = np.concatenate(texts)
    return block, real


def chain(real: Array) -> Array:
    """[B, n] int64: parents of the rows of texts that end together and begin where `real` [B, n] does."""
    rows = np.arange(real.shape[1])
    return np.where(rows > (~real).sum(axis=1, keepdims=True), rows - 1, -1)
