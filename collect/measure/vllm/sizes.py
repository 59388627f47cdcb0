"""A policy that draws sizes by lot and takes the time of each part of a step, inside an engine of vLLM."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from time import perf_counter

import numpy as np

from ....controller.context import StepContext
from ....controller.contract import Information
from ....controller.trees.limits import TreeLimits
from ....controller.trees.tree import Array, DraftTree

Key = tuple[str, int]
"""root 1, draft by width, or verify by nodes."""


class SizedTrees:
    """A `ShapePolicy` whose trees are of random sizes; `times` are milliseconds of steps of `batch` texts."""

    information = Information.ANYTHING
    reads_history = True  # as of a learned policy, whose history is part of a step

    def __init__(self, limits: TreeLimits, widths: Sequence[int], nodes: Sequence[int]):
        self.limits = limits
        self.batch = 0
        self.times: dict[Key, list[float]] = defaultdict(list)
        self._sizes = [(width, count) for width in widths for count in nodes]
        self._draw = Random(0)
        self._verifying: tuple[int, float] | None = None  # nodes of the step before, and when its drafting ended

    def begin(self, context: StepContext) -> "SizedStep":
        now = perf_counter()
        counts = context.batch == self.batch
        if self._verifying is not None and counts:
            count, since = self._verifying
            self.times["verify", count].append((now - since) * 1e3)
        self._verifying = None
        return SizedStep(self, *self._draw.choice(self._sizes), counts)

    def verifies(self, num_nodes: int) -> None:
        self._verifying = num_nodes, perf_counter()


class SizedStep:
    """A `Step`; see `SizedTrees`."""

    log_values = None

    def __init__(self, policy: SizedTrees, width: int, num_nodes: int, counts: bool):
        self._policy, self._width, self._num_nodes, self._counts = policy, width, num_nodes, counts
        self._last: tuple[Key, float] | None = None

    def frontier(self, tree: DraftTree) -> Array:
        self._charge()
        level = tree.deepest
        if level >= self._policy.limits.max_depth or len(tree.tokens[0]) > self._num_nodes > 0:
            return np.zeros((len(tree.tokens), 0), dtype=np.int64)
        nodes = [np.flatnonzero(depths == level)[: self._width if level else 1] for depths in tree.depths]
        width = max(map(len, nodes))
        self._last = ("draft", width) if level else ("root", 1), perf_counter()
        return np.stack([np.pad(row, (0, width - len(row)), constant_values=-1) for row in nodes])

    def keep(self, tree: DraftTree) -> Array:
        self._charge()
        count = min(self._num_nodes, int(tree.num_nodes.min()) - 1)
        self._policy.verifies(count)
        return np.tile(np.arange(count + 1), (len(tree.tokens), 1))

    def record(self, tree: DraftTree, level_widths: list[int], num_tokens: Array) -> None: ...

    def _charge(self) -> None:
        if self._last is not None and self._counts:
            key, since = self._last
            self._policy.times[key].append((perf_counter() - since) * 1e3)
        self._last = None
