"""The shape labels of one text: how far every delayed tree of the menu is accepted at every token, by verifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...controller.learned.shape_menu import BLOCK, NAIVE, TRAVERSAL, TREE_VERIFIERS
from ...controller.trees.delayed import (
    CHAINS,
    DEEPEST,
    LONGEST_BRANCH,
    LONGEST_TRUNK,
    MENU,
    MOST_PATHS,
    PLACES,
    DelayedShape,
)
from ...controller.trees.tree import Array
from .survival import block_survival, delayed_survival, naive_survival, tree_survival

MOST_RATIO = 1e12  # so that the product of those of a chain stays a number
ROWS, COLUMNS = np.tril_indices(MOST_PATHS)


@dataclass(frozen=True)
class ShapeLabels:
    """Of the n generated tokens of one text; the tree labelled at a token is drafted right before it."""

    ratios: Array  # [n] the drafter's probability of the token over the target's
    matrices: Mapping[str, Array]  # [n, K, K] of each of TREE_VERIFIERS, see `survival`
    traversal: Array  # [n, 216] accepted lengths of the branching trees, NaN where none were drafted

    @classmethod
    def of(cls, columns: Mapping[str, Array], traversal: Array) -> Self:
        """From the columns [n, ...] of a trace's `ShapeRow`."""
        matrices = {}
        for verifier in TREE_VERIFIERS:
            packed = columns[verifier.replace("-", "_")]
            matrices[verifier] = np.zeros((len(packed), MOST_PATHS, MOST_PATHS))
            matrices[verifier][:, ROWS, COLUMNS] = packed
        return cls(np.minimum(columns["ratio"].astype(np.float64), MOST_RATIO), matrices, traversal)

    def survival(self, verifier: str) -> Array:
        """[n, 233, 16]: chance that each tree of the menu is accepted to depth 1, 2, ... given the text, 0 below the
        tree and NaN beyond the text. Of Traversal there is no such form, and of verifiers of one path none of trees.
        """
        block = verifier == BLOCK
        chains = (block_survival if block else naive_survival)(self.ratios, DEEPEST)
        survival = np.zeros((len(chains), len(MENU), DEEPEST))
        for chain in CHAINS:
            survival[:, PLACES[chain], : chain.depth] = chains[:, : chain.depth]
        if verifier not in (NAIVE, BLOCK):
            for paths in range(2, MOST_PATHS + 1):
                trees = tree_survival(self.matrices[verifier], paths, LONGEST_BRANCH)
                for trunk in range(LONGEST_TRUNK + 1):
                    longest = delayed_survival(chains, trees, trunk, LONGEST_BRANCH)
                    for branch in range(1, LONGEST_BRANCH + 1):
                        place = PLACES[DelayedShape(paths, trunk, branch)]
                        survival[:, place, : trunk + branch] = longest[:, : trunk + branch]
        else:
            survival[:, len(CHAINS) :] = np.nan
        return survival

    def lengths(self, verifier: str) -> Array:
        """[n, 233] mean accepted lengths given the text; NaN where they are not known."""
        if verifier != TRAVERSAL:
            return self.survival(verifier).sum(axis=2)
        chains = self.lengths(BLOCK)[:, : len(CHAINS)]
        return np.concatenate((chains, self.traversal), axis=1)
