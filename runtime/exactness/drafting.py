"""One run of a drafting program over a toy drafter, and all the runs there are."""

from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, softmax

from ...controller.contract import GREEDY_PLUS_ONE, WITHOUT_REPLACEMENT, Scheme
from ...controller.trees.numbers import NodeNumbers
from ...controller.trees.tree import Array, DraftTree
from .models import Prefix, TableModel

Choose = Callable[[Array], int]
"""Draws an index from probabilities."""


class ToyDraft(NamedTuple):
    """A drafted tree; equal drafts compare equal."""

    prefixes: tuple[Prefix, ...]  # of the nodes
    paths: tuple[tuple[int, ...], ...]  # see `DraftTree.paths`; empty where the scheme has none
    draft_log_probs: tuple[tuple[int, tuple[float, ...]], ...]  # (node, log of the scheme its children were drawn from)

    @property
    def tree(self) -> DraftTree:
        parents = [self.prefixes.index(prefix[:-1]) if prefix else -1 for prefix in self.prefixes]
        links = [
            (prefix[-1] if prefix else 0, parent, len(prefix), parents[:node].count(parent))
            for node, (prefix, parent) in enumerate(zip(self.prefixes, parents, strict=True))
        ]
        numbers = np.zeros((1, len(links), len(NodeNumbers._fields)), dtype=np.float32)
        paths = np.array([self.paths]) if self.paths else None
        return DraftTree(np.array([len(links)]), np.array([links]), numbers, paths)


class Drafting:
    """The tree of a run so far. Children are drawn one by one under `scheme`, or added free."""

    def __init__(self, drafter: TableModel, scheme: Scheme, choose: Choose):
        self.scheme = scheme
        self.prefixes: list[Prefix] = [()]
        self.draws: dict[int, list[int]] = {}  # node -> child of each draw, in order
        self._drafter = drafter
        self._choose = choose
        self._draft_log_probs: dict[int, Array] = {}
        self._paths: list[dict[int, int]] = []  # depth -> node drawn there by each path
        self._through: dict[int, list[int]] = {}  # node -> the paths that drew it

    def row(self, node: int) -> Array:
        """[V] the drafter's probabilities."""
        return self._drafter.row(self.prefixes[node])

    def best_tokens(self, node: int, count: int) -> list[int]:
        """The likeliest tokens, fewer where no more are possible."""
        log_probs = self._drafter.log_row(self.prefixes[node])
        return [token for token in np.argsort(-log_probs, kind="stable")[:count].tolist() if log_probs[token] > -np.inf]

    def path_prob(self, node: int) -> float:
        """The drafter's probability of the node's path."""
        prefix = self.prefixes[node]
        return prod(self._drafter.row(prefix[:depth])[token] for depth, token in enumerate(prefix))

    def num_arrived(self, node: int) -> int:
        """How many paths drew the node; none of the root."""
        return len(self._through.get(node, ()))

    def unseen_log_probs(self, node: int) -> Array:
        """[V] log of the distribution of the next draw under `node`, unscaled; all -inf where no draw is left."""
        log_probs = self._draft_log_probs.get(node, self._drafter.log_row(self.prefixes[node])).copy()
        if self.scheme is WITHOUT_REPLACEMENT:
            log_probs[[self.prefixes[child][-1] for child in self.draws.get(node, ())]] = -np.inf
        return log_probs

    def can_draw(self, node: int) -> bool:
        return bool(np.isfinite(self.unseen_log_probs(node)).any())

    def draw(self, node: int) -> int:
        """Draw a child and return it."""
        log_probs = self.unseen_log_probs(node)
        self._draft_log_probs.setdefault(node, log_probs)
        child = self.add(node, self._choose(softmax(log_probs.astype(np.float64))))
        draws = self.draws.setdefault(node, [])
        arrived = self._through.setdefault(node, [])
        if len(draws) == len(arrived):
            arrived.append(len(self._paths))
            self._paths.append({})
        path = arrived[len(draws)]
        self._paths[path][len(self.prefixes[node])] = child
        self._through.setdefault(child, []).append(path)
        draws.append(child)
        return child

    def draw_several(self, node: int, count: int) -> None:
        """Up to `count` children under the scheme, all at once; greedy-plus-one has one draw among them."""
        if self.scheme is GREEDY_PLUS_ONE and count:
            certain = self.best_tokens(node, min(count, len(self.row(node))) - 1)
            for token in certain:
                self.add(node, token)
            rest = self.unseen_log_probs(node)
            rest[certain] = -np.inf
            if not np.isfinite(rest).any():
                return
            self._draft_log_probs[node] = log_softmax(rest)
            count = 1
        for _ in range(count):
            if self.can_draw(node):
                self.draw(node)

    def add(self, node: int, token: int) -> int:
        """The child of that token, there already or new."""
        prefix = (*self.prefixes[node], token)
        if prefix not in self.prefixes:
            self.prefixes.append(prefix)
        return self.prefixes.index(prefix)

    def draft(self, keep: Callable[[int], bool] = lambda node: True) -> ToyDraft:
        """The current draft, of the nodes to `keep` whose ancestors are all kept."""
        kept: list[Prefix] = [()]
        for node, prefix in enumerate(self.prefixes):
            if node and prefix[:-1] in kept and keep(node):
                kept.append(prefix)
        places = [kept.index(prefix) if prefix in kept else -1 for prefix in self.prefixes]
        length = max((depth + 1 for path in self._paths for depth in path), default=0)
        paths = [tuple(places[path[d]] if d in path else -1 for d in range(length)) for path in self._paths]
        rows = [(places[node], tuple(row.tolist())) for node, row in self._draft_log_probs.items() if places[node] >= 0]
        return ToyDraft(tuple(kept), () if self.scheme is WITHOUT_REPLACEMENT else tuple(paths), tuple(rows))


def every_run(program: Callable[[Choose], ToyDraft]) -> dict[ToyDraft, float]:
    """All drafts that `program` can end in, with their probabilities."""
    drafts: dict[ToyDraft, float] = {}
    for probability, draft in _runs(program):
        drafts[draft] = drafts.get(draft, 0.0) + probability
    return drafts


def _runs(program: Callable[[Choose], ToyDraft]) -> Iterator[tuple[float, ToyDraft]]:
    """Depth first: each run follows the choices before it, up to the last that has another outcome."""
    script: list[int] = []
    while True:
        made: list[tuple[int, int, float]] = []  # number of outcomes, the one taken, its probability
        draft = program(_follow(script, made))
        yield prod(probability for _, _, probability in made), draft
        script = [taken for _, taken, _ in made]
        while script and script[-1] + 1 == made[len(script) - 1][0]:
            script.pop()
        if not script:
            return
        script[-1] += 1


def _follow(script: list[int], made: list[tuple[int, int, float]]) -> Choose:
    """Take the outcomes that `script` counts out, then the first ones; note them in `made`."""

    def choose(probs: Array) -> int:
        outcomes = np.flatnonzero(probs)
        taken = script[len(made)] if len(made) < len(script) else 0
        made.append((len(outcomes), taken, float(probs[outcomes[taken]])))
        return int(outcomes[taken])

    return choose
