"""What a request does with rows of logits before anything is chosen by them: penalties, bans, constraints.

The target's row at each node of a tree is processed with that node's own text, so the walk stays exact whatever was
drafted. The drafter's rows are processed as well: else what is banned would be drafted.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array, DraftTree
from .machine.transfer import to_device


class RowProcessor(Protocol):
    """A function of one request's text: it remembers nothing that changes a later answer."""

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        """[n, V] for `logits` [n, V], the target's or the drafter's, behind n continuations of the prompt: `text`,
        which is generated so far and only ever grows, then each of `paths` [n, D] int64, -1 behind a path's last token.

        The logits are a copy, in float32 at least, that may be written into.
        """
        ...


# Of a text and a path behind it, how many tokens of the path the text may take with some token allowed behind each;
# InputError where none is allowed behind the text itself.
Reach = Callable[[Sequence[int], Sequence[int]], int]


class TextProcessor(NamedTuple):
    """A processor with the text that it goes by."""

    process: RowProcessor
    token_ids: Sequence[int]  # generated so far; grows
    reach: Reach | None = None  # None: all of any path


def processed(
    processors: Sequence[TextProcessor | None], tree: DraftTree, nodes: Array | None, logits: Tensor, *, of_target: bool
) -> Tensor:
    """[B, F, V] for `logits` [B, F, V] behind `nodes` [B, F] of the texts' trees, -1 where a tree has fewer;
    behind all nodes if none are given."""
    if not any(processors[: len(logits)]):
        return logits
    if nodes is None:
        nodes = np.where(tree.valid, np.arange(tree.tokens.shape[1]), -1)
    # Processors add to scores in float32 at least, which a narrower format would round again.
    changed = logits.clone() if logits.dtype in (torch.float32, torch.float64) else logits.float()
    for slot, (processor, of_slot) in enumerate(zip(processors, nodes, strict=False)):
        places = np.nonzero(of_slot >= 0)[0]
        if processor is None or not len(places):
            continue
        at = to_device(places, logits.device)
        paths = _paths(tree, slot, of_slot[places])
        rows = processor.process(processor.token_ids, paths, changed[slot, at], of_target=of_target)
        changed[slot, at] = rows.to(changed.dtype)
    return changed


def by_length(text: Sequence[int], paths: Array) -> Iterator[tuple[Array, Array]]:
    """The texts [m, g] int64 of one length that `text` and some of the `paths` [n, D] make, and which paths these are
    [m]; for all lengths that there are."""
    lengths = (paths >= 0).sum(axis=1)
    for length in np.unique(lengths).tolist():
        places = np.nonzero(lengths == length)[0]
        before = np.tile(np.array(text, dtype=np.int64), (len(places), 1))
        yield places, np.concatenate((before, paths[places, :length]), axis=1)


def _paths(tree: DraftTree, slot: int, nodes: Array) -> Array:
    """[n, D] tokens of the paths to `nodes` [n], the root left out, -1 behind each path's last."""
    paths, nodes = np.full((len(nodes), int(tree.depths[slot, nodes].max())), -1), nodes.copy()
    for depth in range(paths.shape[1], 0, -1):
        ends = np.nonzero(tree.depths[slot, nodes] == depth)[0]  # others are no longer on their paths
        paths[ends, depth - 1] = tree.tokens[slot, nodes[ends]]
        nodes[ends] = tree.parents[slot, nodes[ends]]
    return paths
