"""A small language model as drafter: one forward per level expands a whole frontier."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import COUPLED, LawTerms
from ...controller.ngrams import NgramModel
from ...controller.tree import Array, Children, DraftTree
from ..backends.base import CachedModel, append_text
from ..sampling import TokenSampler
from .law import propose
from .ngram import expect


class LanguageModelDrafter:
    """Drafts with a `CachedModel`; a `Drafter` (see `base`).

    Committed tokens the model has not read yet wait in `_unread`, the root last. They are read by the first expand of
    a step, so a step that drafts nothing costs the drafter nothing until it is asked again. With `ngrams`, the text's
    own n-grams draft one more child of every node.
    """

    def __init__(self, model: CachedModel, law: LawTerms, *, ngrams: bool = False):
        assert not law.sampled, "the walk's laws propose fixed candidates"
        self.model = model
        self.law = law
        self._drafts_ngrams = ngrams
        self._ngrams: list[NgramModel] = []  # of each text up to its root, where they draft
        self._unread: list[Array] = []
        self._rows = np.zeros((0, 0), dtype=np.int64)  # [B, N] cache row of each expanded node, -1 elsewhere
        self._visible = np.zeros((0, 0, 0), dtype=bool)  # [B, rows, rows] what each tree row attends to

    def start(self, texts: list[Array], capacity: int) -> None:
        self.model.open(len(texts), capacity)
        self._unread = list(texts)
        self._ngrams = [NgramModel(text.tolist()) for text in texts] if self._drafts_ngrams else []
        self._forget_tree(len(texts))

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        if tree.tokens.shape[1] == 1:
            return self._expand_roots(tree, frontier, width, sampler)
        num_trees, num_new = frontier.shape
        rows = np.arange(num_trees)[:, None]
        nodes = np.maximum(frontier, 0)
        num_old = self._visible.shape[1]
        known = self._rows_of(tree)
        parent_rows = known[rows, tree.parents[rows, nodes]]  # -1 where the parent is the root

        visible = np.zeros((num_trees, num_old + num_new, num_old + num_new), dtype=bool)
        visible[:, :num_old, :num_old] = self._visible
        if num_old:
            inherited = np.where((parent_rows >= 0)[:, :, None], self._visible[rows, parent_rows], False)
            visible[:, num_old:, :num_old] = inherited
        visible[:, num_old:, num_old:] = np.eye(num_new, dtype=bool)
        root_positions = self.model.lengths - 1
        depths = tree.depths[rows, nodes]
        logits = self.model.forward(tree.tokens[rows, nodes], root_positions[:, None] + depths, visible[:, num_old:])

        tree_rows, order = np.nonzero(frontier >= 0)
        known[tree_rows, frontier[tree_rows, order]] = num_old + order
        self._rows, self._visible = known, visible
        positions = root_positions + tree.depths.max() + 1
        return tree.extend(frontier, self._propose(logits, positions, width, sampler, tree, frontier))

    def _expand_roots(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        """Read what was committed since the last draft, the root last, and hang children under the roots."""
        drafting = frontier[:, 0] >= 0
        unread = [text if wanted else text[:0] for text, wanted in zip(self._unread, drafting, strict=True)]
        last_rows = append_text(self.model, unread)
        for slot in np.nonzero(drafting)[0]:
            self._unread[slot] = unread[slot][:0]
        some_row = next(row for row in last_rows if row is not None)
        logits = torch.stack([some_row if row is None else row for row in last_rows])[:, None]
        positions = self.model.lengths  # the root is committed now, so its children stand right behind
        return tree.extend(frontier, self._propose(logits, positions, width, sampler, tree, frontier))

    def _propose(
        self,
        logits: Tensor,
        positions: Array,
        width: int,
        sampler: TokenSampler,
        tree: DraftTree,
        frontier: Array,
    ) -> Children:
        noise = sampler.noise(positions[:, None]) if self.law is COUPLED else None
        ngrams = partial(expect, self._ngrams, tree, frontier) if self._ngrams else None
        return propose(sampler.warp(logits), noise, width, ngrams)

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array, active: Array) -> None:
        on_path = path >= 0
        path_rows = np.where(on_path, self._rows_of(tree)[np.arange(len(path))[:, None], path], -1)
        self.model.commit(path_rows)
        for slot in np.nonzero(active)[0]:
            missed = path[slot][on_path[slot] & (path_rows[slot] < 0)]
            news = np.append(tree.tokens[slot, missed], next_tokens[slot])
            self._unread[slot] = np.concatenate((self._unread[slot], news))
            if self._ngrams:
                accepted = tree.tokens[slot, path[slot][on_path[slot]]].tolist()
                self._ngrams[slot].extend([*accepted, int(next_tokens[slot])])
        self._forget_tree(len(path))

    def _rows_of(self, tree: DraftTree) -> Array:
        """[B, N]: cache row of each node of the grown tree, -1 where it was not expanded."""
        known = np.full(tree.tokens.shape, -1)
        known[:, : self._rows.shape[1]] = self._rows
        return known

    def _forget_tree(self, num_trees: int) -> None:
        self._rows = np.zeros((num_trees, 0), dtype=np.int64)
        self._visible = np.zeros((num_trees, 0, 0), dtype=bool)
