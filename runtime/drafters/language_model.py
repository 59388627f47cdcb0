"""A small language model as drafter: one forward per level expands a whole frontier."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import Scheme
from ...controller.trees.tree import Array, DraftTree
from ..engines.base import CHUNK, FEW, CachedModel, Note, Session, append_last, append_text, append_texts
from ..machine.transfer import to_device
from ..prefixes.rows import NO_PREFIX, Prefix
from ..processing import processed
from ..sampling import TokenSampler
from ..schemes.ranked import draft
from ..schemes.sampled import append_draws
from .memory import ErrorMemory
from .ngrams.datastore import Datastore
from .ngrams.proposals import NodeNgrams
from .ngrams.slots import SlotNgrams
from .tree_rows import TreeRows


class LanguageModelDrafter:
    """Drafts with a `CachedModel`; a `Drafter` (see `base`).

    Committed tokens that the model has not read are in `_unread`, the root last. The first expand of a step reads them,
    so a step that drafts nothing runs no forward. With `ngrams`, the sequence's own n-grams draft one more child of
    every node, and those of a `datastore` where the sequence's expect nothing. A `memory` corrects its rows.
    """

    most_ahead = num_ahead = 0

    def __init__(
        self,
        model: CachedModel,
        scheme: Scheme,
        *,
        ngrams: bool = False,
        datastore: Datastore | None = None,
        memory: ErrorMemory | None = None,
    ):
        assert ngrams or datastore is None
        assert memory is None or model.last_layer is not None, "the engine gives no hidden states"
        self.model = model
        self._memory = memory
        self.scheme = scheme
        self._ngrams = SlotNgrams(datastore) if ngrams else None
        self._unread: list[Array] = []
        self._rows = TreeRows(0)
        self._roots_read: Tensor | None = None  # [B, 1, V] logits of this step's roots, read before the first expand
        self.draft_rows: list[dict[int, Tensor]] = []

    def prepare(self, num_slots: int, frontier: int) -> None:
        self.model.prepare(num_slots, max(frontier, FEW))  # the roots' level reads what a step has committed

    def open(self) -> Sequence[Session]:
        self._session = Session(self.model)
        self.model.hidden_layers = ()
        if self._memory is not None and self.model.last_layer is not None:
            self.model.hidden_layers = (self.model.last_layer,)
            self._memory.open()
        self._unread = []
        if self._ngrams is not None:
            self._ngrams.open()
        self.forget_tree(0)  # of a step that has failed
        return (self._session,)

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self._session.model.join(capacity)
        most = len(text) - (1 if self._memory is None else self._memory.num_noted)
        self._unread.append(text[prefix.fill(self._session.model, most) :])
        if self._ngrams is not None:
            self._ngrams.join(text)
        if self._memory is not None:
            self._memory.join()

    def keep(self, slots: Sequence[int]) -> None:
        self._session.model.keep(slots)
        self._unread = [self._unread[slot] for slot in slots]
        if self._ngrams is not None:
            self._ngrams.keep(slots)
        if self._memory is not None:
            self._memory.keep(slots)

    def read(self, slot: int, num_tokens: int) -> None:
        """Read so many of a slot's unread tokens, not the root, ahead of the next expand."""
        left = len(self._unread[slot]) - num_tokens
        assert left > 0
        append_text(self._session.model, slot, self._unread[slot][:num_tokens], *self._noting(left))
        self._unread[slot] = self._unread[slot][num_tokens:]

    def read_roots(self, sampler: TokenSampler) -> tuple[Tensor, Tensor]:
        """See `agreement.RootReader`; the first expand of the step uses these rows."""
        unread = self._unread[: len(sampler.samplings)]
        logits = append_last(self._session.model, unread, 2, *self._noting())
        for slot in range(len(unread)):
            self._unread[slot] = unread[slot][:0]
        self._roots_read = logits[:, 1:].clone()
        log_probs = sampler.log_probs(logits)
        return log_probs[:, 0], log_probs[:, 1]

    def _noting(self, num_left: int = 0) -> tuple[Note | None, int]:
        """What `append_text` is told of a text of which so many tokens are left to read."""
        return (None, 0) if self._memory is None else (self._memory.note, max(0, self._memory.num_noted - num_left))

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        nodes, entries = distinct(frontier) if self.scheme.sampled else (frontier, None)
        if tree.tokens.shape[1] == 1:
            roots_read = self._roots_read
            self.forget_tree(len(tree.tokens))
            if entries is None:
                frontier = nodes = self._without_long_reads(nodes)
                if (nodes < 0).all():
                    return tree
            logits = (
                self._root_logits(nodes, sampler)
                if roots_read is None
                else self._recalled(nodes[:, 0] >= 0, roots_read, sampler)
            )
        else:
            logits = self._node_logits(tree, nodes)
        logits = processed(sampler.processors, tree, nodes, logits, of_target=False)
        root_positions = self.model.lengths[: len(nodes)] - 1  # the root has been read by now
        if entries is None:
            positions = root_positions + tree.deepest + 1
            ngrams = None
            if self._ngrams is not None:
                ngrams = NodeNgrams(self._ngrams.models[: len(frontier)], tree, frontier)
            return tree.extend(frontier, draft(self.scheme, logits, positions, width, sampler, ngrams))
        rows = torch.arange(len(logits), device=logits.device)[:, None]
        log_probs = sampler.log_probs(logits)[rows, to_device(entries, logits.device)]
        grown, draft_rows = append_draws(tree, frontier, log_probs, self.scheme, sampler, root_positions)
        for known, new in zip(self.draft_rows, draft_rows, strict=True):
            known.update(new)
        return grown

    def _node_logits(self, tree: DraftTree, frontier: Array) -> Tensor:
        """[B, F, V] of nodes of the deepest level, which become rows of the cache."""
        parents = self._rows.add(tree, frontier)
        nodes, trees = np.maximum(frontier, 0), np.arange(len(frontier))[:, None]
        positions = self.model.lengths[: len(nodes), None] - 1 + tree.depths[trees, nodes]
        tokens = tree.tokens[trees, nodes]
        logits = self._session.model.forward(tokens, positions, parents, real=frontier >= 0)
        if self._memory is None or self.model.hidden is None:
            return logits
        return self._memory.corrected_level(logits, self.model.hidden)

    def _without_long_reads(self, frontier: Array) -> Array:
        """[B, 1]: the roots to expand, without those of sequences with more than a chunk to read, of which one chunk is
        read. Sampled trees are always drafted: else their tokens would depend on the other sequences."""
        if len(frontier) == 1:
            return frontier
        ready = frontier.copy()
        for slot in np.nonzero(frontier[:, 0] >= 0)[0].tolist():
            if len(self._unread[slot]) > CHUNK:
                self.read(slot, CHUNK)
                ready[slot] = -1
        return ready

    def _root_logits(self, frontier: Array, sampler: TokenSampler) -> Tensor:
        """[B, 1, V] after the roots; reads the tokens committed since the last draft, the root last."""
        drafting = frontier[:, 0] >= 0
        texts = zip(self._unread, drafting.tolist(), strict=False)
        unread = [text if wanted else text[:0] for text, wanted in texts]
        logits = append_texts(self._session.model, unread, *self._noting())[:, None]
        for slot in np.nonzero(drafting)[0].tolist():
            self._unread[slot] = unread[slot][:0]
        return self._recalled(drafting, logits, sampler)

    def _recalled(self, drafting: Array, logits: Tensor, sampler: TokenSampler) -> Tensor:
        """[B, 1, V] after the roots that have just been read, of the trees that are `drafting` [B]."""
        if self._memory is None:
            return logits
        self._memory.begin(drafting, sampler)
        return self._memory.corrected_roots(logits)

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        self.follow(tree, path, list(next_tokens[:, None]))

    def follow(self, tree: DraftTree, path: Array, behind: Sequence[Array]) -> None:
        """The same where each sequence continues by one or more tokens [n] behind its path."""
        path_rows = np.full_like(path, -1)
        if tree.tokens.shape[1] > 1:  # else nothing was drafted, and no node has a row
            path_rows = np.where(path >= 0, self._rows.of(tree)[np.arange(len(path))[:, None], path], -1)
            self._session.model.commit(path_rows)
            if self._memory is not None:
                self._memory.commit(path_rows)
        for slot, nodes in enumerate(path):
            text = np.concatenate((tree.tokens[slot, nodes[nodes >= 0]], behind[slot]))
            num_read = int((path_rows[slot] >= 0).sum())  # those behind are yet to be read
            self._unread[slot] = np.concatenate((self._unread[slot], text[num_read:]))
            if self._ngrams is not None:
                self._ngrams.extend(slot, text.tolist())
        self.forget_tree(len(path))

    def forget_tree(self, num_trees: int) -> None:
        """Begin a step of `num_trees` trees."""
        self._rows = TreeRows(num_trees)
        self._roots_read = None
        self.draft_rows = [{} for _ in range(num_trees)]


def distinct(frontier: Array) -> tuple[Array, Array]:
    """The nodes of `frontier` [B, F] without repeats, in order of first mention ([B, fewer], -1 behind each tree's
    last), and which of them each entry is ([B, F], 0 where it is none)."""
    repeated = np.tril(frontier[:, :, None] == frontier[:, None, :], -1)
    is_first = (frontier >= 0) & ~repeated.any(axis=2)
    order = is_first.cumsum(axis=1) - 1
    nodes = np.full((len(frontier), max(1, int(is_first.sum(axis=1).max()))), -1)
    slots, entries = np.nonzero(is_first)
    nodes[slots, order[slots, entries]] = frontier[slots, entries]
    first_mention = np.where(repeated.any(axis=2), repeated.argmax(axis=2), np.arange(frontier.shape[1]))
    return nodes, np.where(frontier >= 0, np.take_along_axis(order, first_mention, axis=1), 0)
