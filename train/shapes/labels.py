"""The shape labels of one text: how far every shape of a verifier's menu is accepted at every token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...controller.learned.shape_menu import BLOCK, HYBRID_NAIVE, TRAVERSAL, TREE_VERIFIERS, menu_of
from ...controller.trees.delayed import (
    CHAINS,
    DEEPEST,
    LONGEST_BRANCH,
    LONGEST_TRUNK,
    MOST_PATHS,
    DelayedShape,
)
from ...controller.trees.menu import DELAYED_MENU, SIDED_MENU
from ...controller.trees.sided import MOST_SIDES, SidedTrunk
from ...controller.trees.tree import Array
from .survival import block_survival, delayed_survival, naive_survival, sided_survival, tree_survival

MOST_RATIO = 1e12  # so that the product of those of a chain stays a number
ROWS, COLUMNS = np.tril_indices(MOST_PATHS)


@dataclass(frozen=True)
class ShapeLabels:
    """Of the n generated tokens of one text; the tree labelled at a token is drafted right before it."""

    ratios: Array  # [n] the drafter's probability of the token over the target's
    matrices: Mapping[str, Array]  # [n, K, K] of each of TREE_VERIFIERS, see `survival`
    landing: Array | None  # [n, 7] see `survival`; None where the traces hold none
    traversal: Array  # [n, 216] accepted lengths of the branching trees, NaN where none were drafted

    @classmethod
    def of(cls, columns: Mapping[str, Array], landing: Array | None, traversal: Array) -> Self:
        """From the columns [n, ...] of a trace's `ShapeRow`."""
        matrices = {}
        for verifier in TREE_VERIFIERS:
            packed = columns[verifier.replace("-", "_")]
            matrices[verifier] = np.zeros((len(packed), MOST_PATHS, MOST_PATHS))
            matrices[verifier][:, ROWS, COLUMNS] = packed
        return cls(np.minimum(columns["ratio"].astype(np.float64), MOST_RATIO), matrices, landing, traversal)

    def survival(self, verifier: str) -> Array:
        """[n, shapes, 16]: chance that each shape of the verifier's menu is accepted to depth 1, 2, ... given the text,
        0 below the tree and NaN beyond the text. Of Traversal there is no such form but for chains."""
        shapes = menu_of(verifier).shapes
        chains = (block_survival if verifier == BLOCK else naive_survival)(self.ratios, DEEPEST)
        survival = np.zeros((len(chains), len(shapes), DEEPEST))
        for length in range(len(CHAINS)):
            survival[:, length, :length] = chains[:, :length]
        if verifier == HYBRID_NAIVE:
            self._add_sided(survival)
        elif verifier in TREE_VERIFIERS:
            self._add_branched(survival, chains, verifier)
        return survival

    def _add_sided(self, survival: Array) -> None:
        assert self.landing is not None
        for sides in range(1, MOST_SIDES + 1):
            longest = sided_survival(self.ratios, self.landing[:, sides - 1], LONGEST_TRUNK)
            for length in range(1, LONGEST_TRUNK + 1):
                survival[:, SIDED_MENU.places[SidedTrunk(1 + sides, length)], :length] = longest[:, :length]

    def _add_branched(self, survival: Array, chains: Array, verifier: str) -> None:
        for paths in range(2, MOST_PATHS + 1):
            trees = tree_survival(self.matrices[verifier], paths, LONGEST_BRANCH)
            for trunk in range(LONGEST_TRUNK + 1):
                longest = delayed_survival(chains, trees, trunk, LONGEST_BRANCH)
                for branch in range(1, LONGEST_BRANCH + 1):
                    place = DELAYED_MENU.places[DelayedShape(paths, trunk, branch)]
                    survival[:, place, : trunk + branch] = longest[:, : trunk + branch]

    def lengths(self, verifier: str) -> Array:
        """[n, shapes] mean accepted lengths given the text; NaN where they are not known."""
        if verifier != TRAVERSAL:
            return self.survival(verifier).sum(axis=2)
        return np.concatenate((self.lengths(BLOCK), self.traversal), axis=1)
