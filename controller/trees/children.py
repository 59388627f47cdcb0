"""The proposed children of a node of a draft tree, before they are appended."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_MARGIN = 12.0  # nats; a lead this long is as good as any


class Children(NamedTuple):
    """What a drafting scheme proposes under a frontier of F nodes, W children each: the drafter's, best first, and
    behind them, where the text's own n-grams draft too, their one.

    A child whose `noisy_log_probs` is not finite is no candidate (the sampling cut it) and is never drafted.
    """

    tokens: Array  # [B, F, W] int64
    log_probs: Array  # [B, F, W] float32, drafter's log-probability under its own temperature and cut
    noisy_log_probs: Array  # [B, F, W] float32, log-softmax of the scores the scheme ranked by
    entropies: Array  # [B, F] float32, nats, of the drafter's row that proposed the children
    top_log_probs: Array  # [B, F] float32, the largest log-probability of that row
    ngram_log_probs: Array | None = None  # [B, F, W] float32, see `ngrams.model.Contexts`; None where they do not draft
    ngram_top_log_probs: Array | None = None  # [B, F] float32


def sibling_margins(noisy_log_probs: Array) -> Array:
    """[..., W] noisy lead over the best sibling, of the best itself over the second, from siblings [..., W], best
    first; an only child leads by `MOST_MARGIN`."""
    best = noisy_log_probs[..., :1]
    second = noisy_log_probs[..., 1:2] if noisy_log_probs.shape[-1] > 1 else -np.inf
    with np.errstate(invalid="ignore"):  # where nothing is finite, nothing is drafted
        leads = noisy_log_probs - best
        leads[..., :1] = best - second
    return np.minimum(leads, MOST_MARGIN, out=leads)
