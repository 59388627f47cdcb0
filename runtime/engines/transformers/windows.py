"""Which layers attend to a window of the text, and the masks of a forward: one for whole texts, one for each window."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from .cache import TreeCache

FULL, SLIDING = "full_attention", "sliding_attention"


class Masks(NamedTuple):
    """To add to the scores of all cache rows, 0 or -inf, [B, 1, n, rows] each.

    Kernels would convert a bool mask to this form in every layer.
    """

    full: Tensor
    windowed: Mapping[int, Tensor]  # by layer, of those whose window hides a row

    @classmethod
    def of(cls, seen: Array, windows: Mapping[int, int], distances: Array | None, *, like: Tensor) -> "Masks":
        """seen: [B, n, rows] bool, what layers without a window attend to. windows: the size by layer. distances:
        [B, n, rows] positions from each cache row to the query; None where no window hides a row. like: of the masks'
        format and device."""
        of_sizes = {}
        if distances is not None:
            of_sizes = {size: _additive(seen & (distances < size), like) for size in set(windows.values())}
        return cls(_additive(seen, like), {layer: of_sizes[size] for layer, size in windows.items() if of_sizes})


def _additive(seen: Array, like: Tensor) -> Tensor:
    on_device = to_device(seen[:, None], like.device)
    return torch.zeros(on_device.shape, dtype=like.dtype, device=like.device).masked_fill_(~on_device, -torch.inf)


def masks_of(cache: TreeCache, windows: Mapping[int, int], visible: Array, slots: slice = slice(None)) -> Masks:
    """Of the `slots` among those of the running forward, whose rows see what is `visible` [B, n, m] of the tree rows;
    `windows` by layer."""
    lengths, distances = cache.lengths[cache.slots][slots], None
    if any(size < cache.end for size in windows.values()):
        distances = row_distances(visible, cache.depths[slots], lengths, cache.end)
    return Masks.of(seen_rows(visible, lengths, cache.end), windows, distances, like=cache.storage)


def seen_rows(visible: Array, lengths: Array, num_rows: int) -> Array:
    """[B, n, rows] bool: attention to the `lengths` [B] committed rows of each slot, and to the tree rows behind them
    that are `visible` [B, n, m]."""
    seen = np.zeros((*visible.shape[:2], num_rows), dtype=bool)
    for row, length in enumerate(lengths):
        seen[row, :, :length] = True
        seen[row, :, length : length + visible.shape[2]] = visible[row]
    return seen


def row_distances(visible: Array, depths: Array, lengths: Array, num_rows: int) -> Array:
    """[B, n, rows] int64: how many positions each cache row lies before each query; of rows that are seen.

    A tree row has its depth, `depths` [B, m], as its distance from the end of the committed text. Those that a row
    sees are its ancestors and itself, so their number is its own depth and one.
    """
    positions = np.repeat(np.arange(num_rows)[None], len(lengths), axis=0)
    for row, length in enumerate(lengths):
        positions[row, length : length + depths.shape[1]] = length + depths[row]
    of_queries = lengths[:, None] + visible.sum(axis=2) - 1
    return of_queries[..., None] - positions[:, None]


def layer_windows(config: Any) -> tuple[int | None, ...]:
    """Per layer, how many positions a row attends to, its own included; None where to all."""
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds: Sequence[str] = getattr(config, "layer_types", None) or [SLIDING] * config.num_hidden_layers
    return tuple(window if kind == SLIDING else None for kind in kinds)


@contextmanager
def narrowed(config: Any, size: int) -> Iterator[None]:
    """Windows of `size` positions at most, in what is computed from `config` meanwhile."""
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window is None or window <= size:
        yield
        return
    config.sliding_window = size
    try:
        yield
    finally:
        config.sliding_window = window
