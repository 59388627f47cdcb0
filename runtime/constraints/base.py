"""What all members of the family share: each is a `RowProcessor` (see `processing`) of one request.

A member is asked about the target's rows and about the drafter's alike. What it keeps of a text, it keeps for speed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...controller.trees.tree import Array
from ..machine.transfer import to_device
from ..processing import RowProcessor


class News(NamedTuple):
    """What a text has become since it was looked at last."""

    starts_anew: bool  # it does not go on from there
    tokens: Sequence[int]  # those that are new


class Growing:
    """Looks at a text that grows; at another one, from its beginning."""

    def __init__(self) -> None:
        self._seen: list[int] | None = None

    def look(self, text: Sequence[int]) -> News:
        seen, text = self._seen, list(text)
        self._seen = text
        if seen is None or text[: len(seen)] != seen:
            return News(True, text)
        return News(False, text[len(seen) :])


class TokenCounts:
    """How often tokens occur in a text behind those `before` it, and on the paths that continue it."""

    def __init__(self, before: Sequence[int] = ()):
        self._before = np.array(before, dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.int64)  # [largest token + 1]
        self._text = Growing()

    def behind(self, text: Sequence[int], paths: Array) -> tuple[Array, Array]:
        """The tokens [u] int64 that occur, and how often each does behind each of the `paths` [n, D], [n, u] int64."""
        news = self._text.look(text)
        if news.starts_anew:
            self._counts = np.bincount(self._before)
        self._counts = _added(self._counts, np.array(news.tokens, dtype=np.int64))
        places, steps = np.nonzero(paths >= 0)
        of_paths = paths[places, steps]
        tokens = np.flatnonzero(_added(self._counts, of_paths))
        counts = np.zeros((len(paths), len(tokens)), dtype=np.int64)
        known = tokens < len(self._counts)
        counts[:, known] = self._counts[tokens[known]]
        np.add.at(counts, (places, np.searchsorted(tokens, of_paths)), 1)
        return tokens, counts


def _added(counts: Array, tokens: Array) -> Array:
    more = np.bincount(tokens, minlength=len(counts))
    more[: len(counts)] += counts
    return more


def banned(logits: Tensor, rows: Array, tokens: Array) -> Tensor:
    """The logits [n, V] with those of `tokens` [k] in `rows` [k] banned."""
    if len(rows):
        logits[to_device(rows, logits.device), to_device(tokens, logits.device)] = -torch.inf
    return logits


class Chain:
    """Members in their order, as one."""

    def __init__(self, members: Sequence[RowProcessor]):
        self._members = members

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        for member in self._members:
            logits = member(text, paths, logits, of_target=of_target)
        return logits
