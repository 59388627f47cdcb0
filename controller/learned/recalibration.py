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

from ..scorers.siblings import odds_of
from ..trees.tree import Array, DraftTree

SOURCES = 2  # the drafter's candidates, and the last one
# Tried by replay on texts unlike those of the reference pair; half and twice these gained nearly as much.
OFFSET_PRECISION, SLOPE_PRECISION = 4.0, 20.0  # of the priors
DECAY = 0.98  # of the sums, per step that verified drafts
LEAST_GAIN = 0.5  # in nats of the log-likelihood of a text; a smaller correction is mostly noise, and takes time
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
        """[B, SOURCES, 2] offsets and slopes; None where all are 0 and 1, as they are where they would explain a text
        by less than LEAST_GAIN better."""
        by_offset, by_slope, of_offset, of_both, of_slope = np.moveaxis(self.sums, -1, 0)
        of_offset, of_slope = of_offset + OFFSET_PRECISION, of_slope + SLOPE_PRECISION
        determinant = of_offset * of_slope - of_both**2
        offsets = (of_slope * by_offset - of_both * by_slope) / determinant
        steepened = (of_offset * by_slope - of_both * by_offset) / determinant
        counts = offsets * by_offset + steepened * by_slope > 2.0 * LEAST_GAIN
        if not counts.any():
            return None
        return np.stack(
            (
                np.where(counts, offsets.clip(-LARGEST_OFFSET, LARGEST_OFFSET), 0.0),
                np.where(counts, (1.0 + steepened).clip(*SLOPES), 1.0),
            ),
            axis=-1,
        )

    def record(self, tree: DraftTree, only_child: Array, last_rank: int, path: Array) -> None:
        """Count a step that verified `tree` and accepted `path` [B, A], -1 behind each tree's last; `only_child` [B, N]
        are the network's log-probabilities of its nodes. Nodes that it had none of do not count."""
        num_trees, size = tree.tokens.shape
        rows = np.arange(num_trees)[:, None]
        on_text = np.zeros((num_trees, size + 1), dtype=bool)
        on_text[:, 0] = True
        on_text[rows, path] = True
        on_text[:, -1] = False  # the column behind the nodes, the parent of roots and what lies behind a path's last
        judged = on_text[rows, tree.parents] & (only_child <= 0.0) & (only_child > -np.inf)
        texts, nodes = np.nonzero(judged)
        if not len(texts):
            return
        odds = odds_of(only_child[texts, nodes])
        parents = texts * size + tree.parents[texts, nodes]
        probs = odds / (1.0 + np.bincount(parents, odds))[parents]  # a conditional logit, as in `siblings`
        log_odds = np.log(odds)
        is_last = tree.ranks[texts, nodes] == last_rank
        sources = texts * SOURCES + is_last
        missed = on_text[texts, nodes] - probs
        sums = self.sums.reshape(-1, 5)
        sums *= np.repeat(np.where(np.bincount(texts, minlength=num_trees) > 0, DECAY, 1.0), SOURCES)[:, None]
        families = sources * size + tree.parents[texts, nodes]  # the children of one source under one node
        prob, mean = (np.bincount(families, weights, len(sums) * size) for weights in (probs, probs * log_odds))
        # A family's information is the variance of its members' shares, so each member adds its part of it.
        rest = 1.0 - prob[families]
        spread = log_odds - mean[families]
        parts = (
            missed,
            missed * log_odds,
            probs * rest,
            probs * log_odds * rest,
            probs * log_odds * spread,
        )
        for column, part in enumerate(parts):
            sums[:, column] += np.bincount(sources, part, len(sums))


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
