"""A drafter model above a stage that guesses ahead: one forward reads the frontier and what was guessed below it.

Level by level, every depth of a tree costs the drafter model a forward. Here a stage guesses how the frontier's nodes
go on, and the model's rows at frontier and guesses together give the candidates of each. A guess that is no candidate
of its parent is dropped with all below it. So one `expand` returns nodes of several depths, and which of them to expand
next, or whether to, is the policy's decision as ever. The walk is exact for any tree.
"""

from collections.abc import Sequence

import numpy as np

from ....controller.contract import Scheme
from ....controller.trees.children import Children
from ....controller.trees.tree import Array, DraftTree
from ...engines.base import CHUNK, FEW, CachedModel, Session, append_text
from ...prefixes.rows import NO_PREFIX, Prefix
from ...processing import processed
from ...sampling import TokenSampler
from ...schemes.ranked import draft
from ...verification.base import DraftRows
from ..ngrams.proposals import NodeNgrams
from ..ngrams.slots import SlotNgrams
from .base import Stage
from .rows import StepRows


class StackedDrafter:
    """A `Drafter` (see `base`) for trees of up to `max_depth` levels, under a scheme of the walk.

    Committed tokens that the model has not read are in `_unread`, the root last. The first expand of a step reads them
    with the guesses, as rows of the tree, of which the commit keeps what has become text. The n-grams of the `texts`
    draft one more child of every node where it `drafts_ngrams`, and may guess in the stage, too.
    """

    draft_rows: DraftRows = ()

    def __init__(
        self,
        model: CachedModel,
        scheme: Scheme,
        stage: Stage,
        max_depth: int,
        *,
        texts: SlotNgrams | None = None,
        drafts_ngrams: bool = False,
    ):
        assert not scheme.sampled and (texts is not None or not drafts_ngrams)
        self.model = model
        self.scheme = scheme
        self.most_ahead = stage.most
        self.num_ahead = 0
        self._stage = stage
        self._max_depth = max_depth
        self._texts = texts
        self._drafts_ngrams = drafts_ngrams
        self._unread: list[Array] = []
        self._rows: StepRows | None = None  # of this step, once it has expanded something

    def prepare(self, num_slots: int, frontier: int) -> None:
        self.model.prepare(num_slots, max(frontier, FEW) + self.most_ahead)
        self._stage.prepare(num_slots)

    def open(self) -> Sequence[Session]:
        self._session = Session(self.model)
        self.model.hidden_layers = ()
        self._unread, self._rows = [], None
        if self._texts is not None:
            self._texts.open()
        return (self._session, *self._stage.open())

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self._session.model.join(capacity)
        self._unread.append(text[prefix.fill(self._session.model, len(text) - 1) :])
        if self._texts is not None:
            self._texts.join(text)
        self._stage.join(text, capacity, prefix)

    def keep(self, slots: Sequence[int]) -> None:
        self._session.model.keep(slots)
        self._unread = [self._unread[slot] for slot in slots]
        if self._texts is not None:
            self._texts.keep(slots)
        self._stage.keep(slots)

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        self.num_ahead = 0
        if tree.tokens.shape[1] == 1:
            frontier = self._without_long_reads(frontier)
            if (frontier < 0).all():
                return tree
            texts = zip(self._unread, (frontier[:, 0] >= 0).tolist(), strict=False)
            before = [text[:-1] if drafting else text[:0] for text, drafting in texts]
            self._rows = StepRows(self._session, before)
        assert self._rows is not None, "nothing was drafted under the roots of this step"
        rows, positions = self._rows, self._rows.root_positions
        # Beyond the model's last position nothing can be read.
        deepest = np.minimum(self._max_depth, self.model.context_length - positions) - 1
        guessed = self._stage.guess(tree, frontier, deepest, sampler)
        nodes = np.concatenate((frontier, _added(tree, guessed)), axis=1)
        self.num_ahead = nodes.shape[1] - frontier.shape[1]
        logits = processed(sampler.processors, guessed, nodes, rows.read(guessed, nodes), of_target=False)
        ngrams = None
        if self._drafts_ngrams and self._texts is not None:
            ngrams = NodeNgrams(self._texts.models[: len(nodes)], guessed, nodes)
        places = positions[:, None] + _taken(guessed.depths, nodes) + 1
        children = draft(self.scheme, logits, places, width, sampler, ngrams)
        grown, became = _grown(tree, guessed, frontier, nodes[:, frontier.shape[1] :], children)
        rows.renumber(became, grown.tokens.shape[1])
        return grown

    def _without_long_reads(self, frontier: Array) -> Array:
        """[B, 1]: the roots to expand, with a few tokens to read each; those of sequences with more than a chunk are
        left out unless they are alone, and one chunk of them is read."""
        ready = frontier[:, :1].copy()
        for slot in np.nonzero(ready[:, 0] >= 0)[0].tolist():
            count = len(self._unread[slot]) - 1
            if count >= FEW:
                ready[slot] = -1 if len(ready) > 1 and count >= CHUNK else ready[slot]
                read, rest = np.split(self._unread[slot], [CHUNK if ready[slot, 0] < 0 else count])
                append_text(self._session.model, slot, read)
                self._unread[slot] = rest
        return ready

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        drafting, num_read = np.zeros(len(path), dtype=bool), np.zeros(len(path), dtype=np.int64)
        if self._rows is not None:
            drafting, num_read = self._rows.of_nodes[:, 0] >= 0, self._rows.commit(path)
        texts: list[Array] = []
        for slot, nodes in enumerate(path):
            text = np.append(tree.tokens[slot, nodes[nodes >= 0]], next_tokens[slot])
            texts.append(text)
            before = self._unread[slot][:0] if drafting[slot] else self._unread[slot]
            self._unread[slot] = np.concatenate((before, text[num_read[slot] :]))
            if self._texts is not None:
                self._texts.extend(slot, text.tolist())
        self._stage.follow(texts)
        self._rows = None


def _grown(
    tree: DraftTree, guessed: DraftTree, frontier: Array, guesses: Array, children: Children
) -> tuple[DraftTree, Array]:
    """The tree with the `children` [B, F + G] of its frontier [B, F], and of each of the `guesses` [B, G] that is among
    its parent's; and which of its nodes each node of `guessed` became [B, N], -1 for none."""
    width = frontier.shape[1]
    grown = tree.extend(frontier, _of(children, slice(width)))
    became = np.full(guessed.tokens.shape, -1)
    became[:, : tree.tokens.shape[1]] = np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)
    depths = np.where(guesses >= 0, _taken(guessed.depths, guesses), 0)
    for depth in range(1, guessed.deepest + 1):
        (columns,) = np.nonzero((depths == depth).any(axis=0))
        if not len(columns):
            continue
        of_depth = np.where(depths == depth, guesses, -1)[:, columns]
        above = np.where(of_depth >= 0, _taken(became, _taken(guessed.parents, of_depth)), -1)[:, :, None]
        is_same = (grown.parents[:, None] == above) & (above >= 0)
        is_same &= grown.tokens[:, None] == _taken(guessed.tokens, of_depth)[:, :, None]
        found = np.where(is_same.any(axis=2), is_same.argmax(axis=2), -1)
        trees, order = np.nonzero(found >= 0)
        became[trees, of_depth[trees, order]] = found[trees, order]
        grown = grown.extend(found, _of(children, width + columns))
    return grown, became


def _added(tree: DraftTree, guessed: DraftTree) -> Array:
    """[B, G]: the nodes that `guessed` has besides those of `tree`, -1 behind each tree's last."""
    counts = (guessed.num_nodes - tree.num_nodes)[:, None]
    places = np.arange(int(counts.max()))
    return np.where(places < counts, tree.num_nodes[:, None] + places, -1)


def _taken(column: Array, nodes: Array) -> Array:
    """[B, F] of a tree's column [B, N] at `nodes` [B, F]; at -1 the root's."""
    return np.take_along_axis(column, np.maximum(nodes, 0), axis=1)


def _of(children: Children, columns: slice | Array) -> Children:
    """Those of some of the nodes."""
    chosen = Children(*(each[:, columns] for each in children[:5]))
    of_ngrams, of_their_best = children.ngram_log_probs, children.ngram_top_log_probs
    if of_ngrams is None or of_their_best is None:
        return chosen
    return chosen._replace(ngram_log_probs=of_ngrams[:, columns], ngram_top_log_probs=of_their_best[:, columns])
