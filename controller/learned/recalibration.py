"""Recalibration while decoding: how far the learned score is off in one text, from what was committed there.

A selector is trained on texts of one kind and asked about others. The children of a node on the text are a conditional
logit, as in `scorers.siblings`: each has odds against none of them, which the network answers. Per source of a
candidate these odds become exp(offset) * odds ** slope (Platt scaling); sources are the drafter's ranks and the last
rank, which is the n-grams' where they draft. Offset and slope are one Newton step from 0 and 1 on the log-likelihood of
what the text took, with a normal prior around them. So they are a function of what was verified in the text before the
step's root, and nothing is kept but sums.
"""

from collections.abc import Sequence

import numpy as np

from ..scorers.siblings import among_siblings, odds_of
from ..trees.tree import Array, DraftTree

SOURCES = 2  # the drafter's candidates, and the last one
# Tried by replay on texts unlike those of the reference pair; half and twice these gained nearly as much.
OFFSET_PRECISION, SLOPE_PRECISION = 4.0, 20.0  # of the priors
DECAY = 0.98  # of the sums, per step that verified drafts
LARGEST_OFFSET = 3.0
LEAST_NONE = 1e-9  # probability that none of a node's candidates is taken
SLOPES = (0.3, 1.7)


class Calibration:
    """The sums of B texts. `sums` [B, SOURCES, 5]: derivatives of the log-likelihood by offset and slope, and the
    information of offset, of both, and of slope."""

    def __init__(self, num_texts: int = 0):
        self.sums = np.zeros((num_texts, SOURCES, 5))

    def join(self) -> None:
        """One more text, behind the others."""
        self.sums = np.concatenate((self.sums, np.zeros((1, SOURCES, 5))))

    def keep(self, slots: Sequence[int]) -> None:
        """Text i becomes what `slots[i]` was; the others leave."""
        self.sums = self.sums[list(slots)]

    def coefficients(self) -> Array | None:
        """[B, SOURCES, 2] offsets and slopes; None where all are 0 and 1."""
        if not self.sums.any():
            return None
        by_offset, by_slope, of_offset, of_both, of_slope = np.moveaxis(self.sums, -1, 0)
        of_offset, of_slope = of_offset + OFFSET_PRECISION, of_slope + SLOPE_PRECISION
        determinant = of_offset * of_slope - of_both**2
        offsets = (of_slope * by_offset - of_both * by_slope) / determinant
        slopes = 1.0 + (of_offset * by_slope - of_both * by_offset) / determinant
        return np.stack((offsets.clip(-LARGEST_OFFSET, LARGEST_OFFSET), slopes.clip(*SLOPES)), axis=-1)

    def record(self, tree: DraftTree, only_child: Array, last_rank: int, path: Array) -> None:
        """Count a step that verified `tree` and accepted `path` [B, A], -1 behind each tree's last; `only_child` [B, N]
        are the network's log-probabilities of its nodes. Nodes that it had none of do not count."""
        num_trees, size = tree.tokens.shape
        on_text = np.zeros((num_trees, size + 1), dtype=bool)
        on_text[:, 0] = True
        on_text[np.arange(num_trees)[:, None], path] = True  # -1 is the column behind the nodes
        known = (only_child <= 0.0) & (only_child > -np.inf) & (tree.depths > 0)
        judged = known & np.take_along_axis(on_text, np.maximum(tree.parents, 0), axis=1)
        texts, nodes = np.nonzero(judged)
        if not len(texts):
            return
        usable = np.where(known, only_child, -np.inf)
        probs = np.exp(among_siblings(usable, tree)[judged].astype(np.float64))
        log_odds = np.log(odds_of(usable[judged]))
        sources = texts * SOURCES + (tree.ranks[judged] == last_rank)
        families = sources * size + tree.parents[judged]  # the children of one source under one node
        missed = on_text[texts, nodes] - probs
        sums = self.sums.reshape(-1, 5)
        sums *= np.repeat(np.where(np.bincount(texts, minlength=num_trees) > 0, DECAY, 1.0), SOURCES)[:, None]
        sums[:, 0] += np.bincount(sources, missed, len(sums))
        sums[:, 1] += np.bincount(sources, missed * log_odds, len(sums))
        prob, mean, square = (
            np.bincount(families, probs * log_odds**power, len(sums) * size).reshape(-1, size) for power in range(3)
        )
        sums[:, 2] += (prob * (1.0 - prob)).sum(axis=1)
        sums[:, 3] += (mean * (1.0 - prob)).sum(axis=1)
        sums[:, 4] += (square - mean**2).sum(axis=1)


def recalibrated_odds(odds: Array, is_last: Array, coefficients: Array) -> Array:
    """[B, N] of `odds` [B, N] against none, of candidates that are of the last rank or not (broadcastable)."""
    offsets, slopes = np.moveaxis(coefficients, -1, 0)  # [B, SOURCES] each
    which = np.broadcast_to(is_last, odds.shape)
    offset, slope = (np.where(which, each[:, 1:], each[:, :1]) for each in (offsets, slopes))
    return np.exp(offset) * odds**slope


def recalibrated_coverage(coverage: Array, coefficients: Array) -> Array:
    """[B, N, W] of log-probabilities `coverage` [B, N, W] of the candidates; NaN stays NaN."""
    probs = np.exp(coverage, dtype=np.float64)
    none = np.maximum(1.0 - probs.sum(axis=-1, keepdims=True), LEAST_NONE)
    num_trees, size, width = coverage.shape
    is_last = np.tile(np.arange(width) == width - 1, size)
    odds = recalibrated_odds((probs / none).reshape(num_trees, -1), is_last, coefficients).reshape(coverage.shape)
    with np.errstate(divide="ignore"):  # a candidate of probability 0 stays one
        return np.log(odds / (1.0 + odds.sum(axis=-1, keepdims=True))).astype(coverage.dtype)
