"""The target: one forward over the root and the kept nodes gives a row of logits after each."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array, DraftTree
from .engines.base import CHUNK, CachedModel, Session, append_text, chain, ending_together
from .machine.transfer import to_device
from .prefixes.rows import NO_PREFIX, Prefix


class Target:
    """Scores trees behind the sequences committed to the slots of its model.

    A prompt waits in `_unread` until it is read, all but the last token, which is the first root. The forward that
    scores the first tree reads what is left of it, which saves a request that is alone one forward.

    With `hidden_layers` (see `CachedModel`), the hidden states of committed tokens are kept for the drafter, and with
    `num_kept` the logits after up to so many of the last ones; a prompt is then read to its end before the first draft.
    Neither is part of a prefix, so tokens that the drafter needs them of are read again.
    """

    def __init__(self, model: CachedModel, hidden_layers: tuple[int, ...] = (), num_kept: int = 0):
        self.model = model
        self.num_kept = num_kept
        self._hidden_layers = hidden_layers
        self._unread: list[Array] = []
        self._hidden: list[list[Tensor]] = []  # per slot, [n, features] each, of tokens committed and not yet taken
        self._kept: list[list[Tensor]] = []  # the same of logits, [n, V] each
        self._scored: Tensor | None = None  # [B, N, V] of the trees just scored, where logits are kept

    def open(self) -> Session:
        """Empty all slots."""
        self._session = Session(self.model)
        self.model.hidden_layers = self._hidden_layers
        self._unread, self._hidden, self._kept, self._scored = [], [], [], None
        return self._session

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        """Add a sequence [n] int64 behind the others, whose `prefix` is not read; it will take at most `capacity` rows
        of the cache."""
        self._session.model.join(capacity)
        has_head = bool(self._hidden_layers)
        most = prefix.most_with_states(len(text)) if has_head else len(text) - 1 - self.num_kept
        num_read = prefix.fill(self._session.model, most)
        self._unread.append(text[num_read:-1])
        self._hidden.append([])
        self._kept.append([])

    def keep(self, slots: Sequence[int]) -> None:
        """Move slot `slots[i]`, never a smaller number than i, to slot i; remove the others."""
        self._session.model.keep(slots)
        self._unread = [self._unread[slot] for slot in slots]
        self._hidden = [self._hidden[slot] for slot in slots]
        self._kept = [self._kept[slot] for slot in slots]

    def forget_forward(self) -> None:
        """Drop the rows of a forward that failed before they were committed."""
        self._session.model.commit(np.zeros((0, 0), dtype=np.int64))

    def num_unread(self, slot: int) -> int:
        return len(self._unread[slot])

    def read(self, slot: int, num_tokens: int, take_logits: Callable[[Tensor], None] | None = None) -> None:
        """Read so many of a slot's unread tokens; `take_logits` is given those [n, V] after each, chunk by chunk."""

        def note(slot: int, logits: Tensor, hidden: Tensor | None) -> None:
            if self.num_kept:
                self._keep_logits(slot, logits[-self.num_kept :].clone())
            if take_logits is not None:
                take_logits(logits)

        first_kept = len(self._unread[slot]) - self.num_kept
        for start in range(0, num_tokens, CHUNK):  # one forward each
            tokens = self._unread[slot][start : min(start + CHUNK, num_tokens)]
            num_noted = max(0, start + len(tokens) - first_kept) if self.num_kept else 0
            append_text(self._session.model, slot, tokens, note, num_noted if take_logits is None else len(tokens))
            self._remember(slot, 0, np.arange(len(tokens)))
        self._unread[slot] = self._unread[slot][num_tokens:]

    def take_hidden(self, slot: int) -> Tensor | None:
        """[n, features] hidden states of the tokens committed since the slot was asked last; None for no tokens."""
        hidden, self._hidden[slot] = self._hidden[slot], []
        return torch.cat(hidden) if hidden else None

    def take_logits(self, slot: int) -> Tensor | None:
        """[n, V] logits after the tokens committed since the slot was asked last, the last `num_kept` at most; None
        for no tokens."""
        kept, self._kept[slot] = self._kept[slot], []
        if len(kept) == 1 and len(kept[0]) <= self.num_kept:
            return kept[0]
        return torch.cat(kept)[-self.num_kept :] if kept else None

    def score(self, tree: DraftTree) -> Tensor:
        """[B, N, V]: logits after each node of the trees of the first B slots, given its path."""
        rows = self._score(tree)
        self._scored = rows if self.num_kept else None
        return rows

    def _score(self, tree: DraftTree) -> Tensor:
        num_trees, size = tree.tokens.shape
        if not any(map(len, self._unread[:num_trees])):
            positions = self.model.lengths[:num_trees, None] + np.maximum(tree.depths, 0)
            return self._session.model.forward(tree.tokens, positions, tree.parents, num_logits=size, real=tree.valid)
        unread, is_unread = ending_together(self._unread[:num_trees])
        width = unread.shape[1]
        real = np.concatenate((is_unread, tree.valid), axis=1)
        of_nodes = np.where(tree.parents >= 0, tree.parents + width, -1)[:, 1:]
        lengths = self.model.lengths[:num_trees, None]
        before = lengths + is_unread.cumsum(axis=1) - 1
        behind = lengths + is_unread.sum(axis=1, keepdims=True) + np.maximum(tree.depths, 0)
        return self._session.model.forward(
            np.concatenate((unread, tree.tokens), axis=1),
            np.concatenate((before, behind), axis=1),
            np.concatenate((chain(real[:, : width + 1]), of_nodes), axis=1),
            num_logits=size,
            real=real,
        )

    def commit(self, path: Array) -> None:
        """Keep the root and the accepted `path` ([B, A] nodes, -1 behind the last) of the trees just scored."""
        num_trees = len(path)
        rows = np.concatenate((np.zeros((num_trees, 1), dtype=np.int64), path), axis=1)
        if self._scored is not None:
            is_kept = rows >= 0
            nodes = np.arange(num_trees)[:, None] * self._scored.shape[1] + rows
            kept = self._scored.flatten(0, 1).index_select(0, to_device(nodes[is_kept], self.model.device))
            for slot, logits in enumerate(kept.split(is_kept.sum(axis=1).tolist())):
                self._keep_logits(slot, logits)
            self._scored = None
        if any(map(len, self._unread[:num_trees])):
            rows = self._behind_unread(rows)
            self._unread[:num_trees] = [text[:0] for text in self._unread[:num_trees]]
        self._session.model.commit(rows)
        if self._hidden_layers:
            for slot, kept in enumerate(rows):
                self._remember(slot, slot, kept[kept >= 0])

    def _keep_logits(self, slot: int, logits: Tensor) -> None:
        """Keep the logits [n, V] after n >= 1 newly committed tokens, and drop older ones that nobody will ask for."""
        self._kept[slot].append(logits)
        del self._kept[slot][: -self.num_kept]

    def _behind_unread(self, nodes: Array) -> Array:
        """[B, more] rows of the last forward: unread tokens, then `nodes` [B, A + 1]; -1 behind each slot's last."""
        _, is_unread = ending_together(self._unread[: len(nodes)])
        width = is_unread.shape[1]
        unread = np.where(is_unread, np.arange(width), -1)
        rows = np.concatenate((unread, np.where(nodes >= 0, nodes + width, -1)), axis=1)
        # -1 entries may only come last.
        return np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)

    def _remember(self, slot: int, index: int, rows: Array) -> None:
        """Keep the hidden states of committed `rows` [n] of the last forward, in which the slot had this `index`."""
        if self._hidden_layers:
            assert self.model.hidden is not None
            # A copy: a view would keep all rows of the forward alive.
            self._hidden[slot].append(self.model.hidden[index, to_device(rows, self.model.device)])
