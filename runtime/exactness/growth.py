"""Growth rules: how a toy draft decides where to draw next, from what it has seen.

Each is a program of the class that it declares, so that a verifier which tolerates the class can be held to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...controller.contract import (
    COUPLED,
    FIXED,
    GREEDY_PLUS_ONE,
    HYBRID,
    IID_PATHS,
    WITHOUT_REPLACEMENT,
    Information,
    Scheme,
)
from .drafting import Choose, Drafting, ToyDraft
from .models import TableModel


class Shape(NamedTuple):
    """The largest tree: a trunk, then `width` paths, or for the schemes of distinct siblings `width` children a
    node."""

    width: int
    trunk: int
    branch: int

    @property
    def depth(self) -> int:
        return self.trunk + self.branch

    def most_draws(self, scheme: Scheme) -> int:
        """Draws of the largest tree."""
        if scheme is FIXED:
            return 0
        if scheme in (IID_PATHS, HYBRID):
            return self.trunk + self.width * self.branch
        return self.trunk + sum(self.width**level for level in range(1, self.branch + 1))

    def num_children(self, drafting: Drafting, node: int) -> int:
        """Children to draw under `node`."""
        depth = len(drafting.prefixes[node])
        if depth == self.depth:
            return 0
        if depth < self.trunk:
            return 1
        if depth > self.trunk and drafting.scheme in (IID_PATHS, HYBRID):
            return drafting.num_arrived(node)
        return self.width


class Growth(NamedTuple):
    information: Information
    grow: Callable[[Drafting, Shape], None]
    keep: Callable[[Drafting, int], bool] = lambda drafting, node: True


def static(drafting: Drafting, shape: Shape) -> None:
    _level_order(drafting, lambda node: shape.num_children(drafting, node))


def count_by_row(drafting: Drafting, shape: Shape) -> None:
    """A single child where the drafter is sure."""
    _level_order(
        drafting, lambda node: min(shape.num_children(drafting, node), 1 if drafting.row(node).max() > 0.6 else 9)
    )


def expand_by_token(drafting: Drafting, shape: Shape) -> None:
    """An unlikely path ends; its last token is kept."""
    _level_order(drafting, lambda node: shape.num_children(drafting, node) if drafting.path_prob(node) > 0.2 else 0)


def best_node_first(drafting: Drafting, shape: Shape) -> None:
    """The likeliest leaf anywhere gets all its children at once, three times over."""
    grown: set[int] = set()
    for _ in range(3):
        open_nodes = [
            node for node in range(len(drafting.prefixes)) if node not in grown and shape.num_children(drafting, node)
        ]
        if open_nodes:
            best = max(open_nodes, key=drafting.path_prob)
            grown.add(best)
            drafting.draw_several(best, shape.num_children(drafting, best))


def stop_siblings(drafting: Drafting, shape: Shape) -> None:
    """Siblings end with token 0."""
    node = 0
    while node < len(drafting.prefixes):
        for _ in range(shape.num_children(drafting, node)):
            if not drafting.can_draw(node) or drafting.prefixes[drafting.draw(node)][-1] == 0:
                break
        node += 1


def best_child_first(drafting: Drafting, shape: Shape) -> None:
    """Four draws, each where the drafter expects the most of one more child, all over the tree."""

    def promise(node: int) -> float:
        left = np.exp(drafting.unseen_log_probs(node)).sum() if drafting.scheme is WITHOUT_REPLACEMENT else 1.0
        return drafting.path_prob(node) * left * 0.7 ** len(drafting.draws.get(node, ()))

    for _ in range(4):
        nodes = [node for node, prefix in enumerate(drafting.prefixes) if len(prefix) < shape.depth]
        drawable = [node for node in nodes if drafting.can_draw(node)]
        drafting.draw(max(drawable, key=promise))


GROWTHS = {
    "static": Growth(Information.PREDICTABLE, static),
    "count-by-row": Growth(Information.PREDICTABLE, count_by_row),
    "expand-by-token": Growth(Information.PREDICTABLE, expand_by_token),
    "best-node-first": Growth(Information.PREDICTABLE, best_node_first),
    "stop-siblings": Growth(Information.ADAPTED, stop_siblings),
    "best-child-first": Growth(Information.ADAPTED, best_child_first),
    "drop-unlikely": Growth(Information.ANYTHING, static, lambda drafting, node: drafting.path_prob(node) > 0.15),
}


def drafts_under(scheme: Scheme, growth: str) -> bool:
    """Whether a rule says anything under a scheme: one without draws has no earlier siblings to use, and the noise
    of the coupled scheme is not enumerable."""
    if scheme is COUPLED:
        return False
    if GROWTHS[growth].information is Information.ADAPTED:
        return scheme not in (FIXED, GREEDY_PLUS_ONE)
    return scheme is not FIXED or growth != "best-node-first"


def program(scheme: Scheme, growth: Growth, shape: Shape, drafter: TableModel) -> Callable[[Choose], ToyDraft]:
    """What drafts one tree; side branches, where the scheme has them, come last and use everything."""

    def run(choose: Choose) -> ToyDraft:
        drafting = Drafting(drafter, scheme, choose)
        growth.grow(drafting, shape)
        if scheme is HYBRID:
            _add_sides(drafting)
        return drafting.draft(lambda node: growth.keep(drafting, node))

    return run


def _level_order(drafting: Drafting, count: Callable[[int], int]) -> None:
    node = 0
    while node < len(drafting.prefixes):  # it grows meanwhile
        if drafting.scheme is FIXED:
            for token in drafting.best_tokens(node, count(node)):
                drafting.add(node, token)
        else:
            drafting.draw_several(node, count(node))
        node += 1


def _add_sides(drafting: Drafting) -> None:
    """Under every trunk node, tokens picked by the last token of the whole trunk, and a child of each."""
    last = drafting.prefixes[-1][-1] if len(drafting.prefixes) > 1 else 0
    for node in range(len(drafting.prefixes)):
        size = len(drafting.row(node))
        if drafting.row(node)[last] > 0.1:
            side = drafting.add(node, (last + 1) % size)
            drafting.add(side, last)
