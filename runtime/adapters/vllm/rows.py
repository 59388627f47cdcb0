"""The rows of a forward that are trees, and where they go when a path of them was accepted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....controller.trees.tree import Array
from .attention import order_of
from .forest import Branches


class TreeBatch(NamedTuple):
    """What a step verifies, by row of the batch."""

    branches: list[Branches | None]
    starts: Array  # [B] the row of each root among all rows of the forward
    positions: Array  # [B] the root's index in its text
    masks: dict[int, Tensor]  # of the trees that are no chains


def moved(batch: TreeBatch, paths: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The rows of accepted nodes that do not lie behind their root yet, and the rows where they belong."""
    sources, targets = [], []
    for start, path in zip(batch.starts.tolist(), paths, strict=True):
        for depth, node in enumerate(path, start=1):
            if node != depth:
                sources.append(start + node)
                targets.append(start + depth)
    return sources, targets


def move_cached(layers: Sequence[Any], slots: Tensor, sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copy keys and values of some rows to others, in every layer; `slots` are those of all rows in the cache."""
    from_slots, to_slots = slots[sources].long(), slots[targets].long()
    for layer in layers:
        order_of(layer, layer.kv_cache).move(layer.kv_cache, from_slots, to_slots)


def straight_order(batch: TreeBatch, paths: Sequence[Sequence[int]], num_rows: int) -> Tensor:
    """[num_rows]: the rows as a chain would have left them, each accepted path behind its root, then the rejected."""
    order = torch.arange(num_rows)
    for branches, start, path in zip(batch.branches, batch.starts.tolist(), paths, strict=True):
        if branches is not None:
            count = len(branches.tokens)
            rejected = sorted({*range(1, count + 1)} - {*path})
            order[start + 1 : start + count + 1] = start + torch.tensor([*path, *rejected])
    return order
