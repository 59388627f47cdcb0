"""The selector: the best nodes by a score, as many as a rule says.

Every tree policy is a scorer and a way to choose how many nodes: a fixed budget (static trees, EAGLE-2's growth and
re-rank), a least gain per level (OPT-Tree's delta), or the choice rule over a latency table.

A level is what one forward of the drafter expands: some of the deepest nodes. Where a stack of drafters drafts several
depths at once, it is the best of all nodes that were not expanded yet.
"""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..pricing.objective import Objective, Prices, best_size, best_width
from ..scorers.base import Scorer, Scores
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .base import num_committed

BEHIND = np.iinfo(np.int64).max  # sorts behind every node
LOWEST = float(np.finfo(np.float32).min)  # below every finite log-probability


@dataclass(frozen=True, eq=False)
class Selector:
    """A shape policy; see the module's docstring for what the arguments turn it into.

    `min_prob` drops the children of a node whose next-token maximum probability is below it; `path_prob` cuts a
    branch whose cumulative drafter probability is below it; `delta` ends drafting once a level adds less expected
    accepted tokens than this; `objective` prices nodes and levels (the budget stays the upper limit). `all_depths` is
    for trees of a stack of drafters: there `limits.max_depth` bounds the levels too, and without an objective drafting
    ends once a node is so deep.
    """

    scorer: Scorer
    limits: TreeLimits
    _: KW_ONLY
    min_prob: float = 0.0
    path_prob: float = 0.0
    delta: float = 0.0
    objective: Objective | None = None
    all_depths: bool = False
    information = Information.ANYTHING

    @property
    def reads_history(self) -> bool:
        return self.scorer.reads_history

    def __post_init__(self) -> None:
        assert not (self.all_depths and self.delta), "the gain of a level is that of the deepest nodes"

    def begin(self, context: StepContext) -> "SelectorStep":
        return SelectorStep(self, context)


class SelectorStep:
    """A `Step` (see `base`) that remembers the scores of the trees so far, and the step's prices."""

    def __init__(self, selector: Selector, context: StepContext):
        self._selector = selector
        self._context = context
        self._scores: Scores | None = None
        self._kept: Array | None = None  # what `keep` said
        self._asked: list[Array] = []  # what `frontier` said, where nodes of all depths are expanded
        self._valued: tuple[DraftTree, Array, int] | None = None  # the last tree, its `_log_values`, and its last level

    def frontier(self, tree: DraftTree) -> Array:
        limits, objective = self._selector.limits, self._selector.objective
        if self._is_done(tree):
            return np.zeros((len(tree.tokens), 0), dtype=np.int64)
        log_values = self._log_values(tree)
        coverage = self._score(tree).coverage[:, :, : limits.num_children]
        nodes = self._open_nodes(tree, log_values, coverage)
        if nodes.shape[1] and objective is not None:
            rows = np.arange(len(nodes))[:, None]
            predicted = np.exp(log_values[rows, nodes][:, :, None] + coverage[rows, nodes])
            if len(nodes) > 1:  # a single tree has no padding
                predicted[nodes < 0] = 0.0
            nodes = nodes[:, : best_width(np.exp(log_values[:, 1:]), predicted, self._prices, tree.deepest)]
        if self._selector.all_depths:
            self._asked.append(nodes)
        return nodes

    def keep(self, tree: DraftTree) -> Array:
        log_values = self._log_values(tree)
        rows, order = np.arange(len(log_values))[:, None], np.argsort(-log_values, axis=1, kind="stable")
        size = min(log_values.shape[1] - 1, self._selector.limits.budget)
        if self._selector.objective is not None:
            probs = np.exp(log_values[rows, order[:, 1 : size + 1]])
            size = best_size(probs, self._prices)
        counts = np.minimum(np.isfinite(log_values).sum(axis=1) - 1, size)
        places = np.arange(int(counts.max()) + 1)
        nodes = np.where(places <= counts[:, None], order[:, : len(places)], BEHIND)
        nodes.sort(axis=1)
        nodes[nodes == BEHIND] = -1
        self._kept = nodes
        return nodes

    @property
    def log_values(self) -> Array | None:
        predicts = self._scores is not None and self._scores.predicts
        return self._valued[1] if self._valued is not None and predicts else None

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        """Let the objective count what the step committed, and its price, and the texts' calibration what the score
        was off by."""
        objective, context = self._selector.objective, self._context
        scores, kept = self._scores, self._kept
        answers = None if scores is None else scores.only_child
        if context.calibration is not None and scores is not None and answers is not None and kept is not None:
            only_child = np.take_along_axis(answers, np.maximum(kept, 0), axis=1)
            context.calibration.record(tree, only_child, scores.coverage.shape[2] - 1, path)
        if objective is None:
            return
        size = {"batch": context.batch, "context": context.longest}
        price = objective.table.step_ms(level_widths, tree.tokens.shape[1] - 1, **size)
        num_tokens = float(num_committed(path).sum())
        objective.record(context.mean_temperature, num_tokens, price, **size)
        if kept is not None and self._valued is not None and kept.shape[1] > 1:
            probs = np.exp(np.take_along_axis(self._valued[1], np.maximum(kept, 0), axis=1))
            objective.judge(float(probs[kept > 0].sum()), num_tokens - context.batch)

    def _open_nodes(self, tree: DraftTree, log_values: Array, coverage: Array) -> Array:
        """[B, F]: of each tree's nodes of the last level, or of all that were not expanded yet, those that may be kept
        and have likely children, best first, as many as may be expanded; -1 behind each tree's last."""
        level = tree.deepest
        # NaN compares false: under such a node nothing is drafted.
        is_open = log_values >= self._worst_kept(log_values)
        is_open &= self._unexpanded(tree) if self._selector.all_depths else tree.depths == level
        is_open &= coverage.max(axis=2, initial=-np.inf) >= LOWEST
        is_open &= tree.depths < self._context.max_depths[:, None]
        if level and self._selector.delta:
            for row in range(len(is_open)):
                is_open[row] &= self._level_gain(tree, log_values[row], row, level) >= self._selector.delta
        counts = is_open.sum(axis=1)
        width = min(int(counts.max()), self._selector.limits.frontier)
        order = np.argsort(np.where(is_open, -log_values, np.inf), axis=1, kind="stable")[:, :width]
        return np.where(np.arange(width) < counts[:, None], order, -1)

    def _is_done(self, tree: DraftTree) -> bool:
        """Whether no further level may be drafted."""
        selector = self._selector
        if len(self._asked) >= selector.limits.max_depth:
            return True
        return tree.deepest >= selector.limits.max_depth and not (selector.all_depths and selector.objective)

    def _unexpanded(self, tree: DraftTree) -> Array:
        """[B, N] bool: nodes that may have children and were not asked for any."""
        unexpanded = (tree.depths >= 0) & (tree.depths < self._selector.limits.max_depth)
        for nodes in (tree.parents, *self._asked):
            rows, places = np.nonzero(nodes >= 0)
            unexpanded[rows, nodes[rows, places]] = False
        return unexpanded

    def _score(self, tree: DraftTree) -> Scores:
        if self._scores is None or self._scores.tree is not tree:
            self._scores = self._selector.scorer.score(tree, self._context, self._scores)
        return self._scores

    def _log_values(self, tree: DraftTree) -> Array:
        """[B, N]: log-probability that the text runs through the node; -inf where a threshold cuts it."""
        if self._valued is not None and self._valued[0] is tree:
            return self._valued[1]
        level = 0
        if tree.tokens.shape[1] == 1:
            log_values = np.zeros(tree.tokens.shape)
        else:
            level = tree.deepest
            # The sums of the tree before its last level; where more levels are new, there are none.
            is_next = not self._selector.all_depths and self._valued is not None and self._valued[2] >= level - 1
            known = self._valued[1] if self._valued is not None and is_next else None
            edges = np.minimum(self._score(tree).accept, 0.0, dtype=np.float64)
            if self._selector.min_prob > 0:
                edges = np.where(tree.top_log_probs < np.log(self._selector.min_prob), -np.inf, edges)
            log_values = tree.path_sums(edges, known)
            if self._selector.all_depths:  # what was drafted ahead may lie behind the end of the text
                log_values = np.where(tree.depths > self._context.max_depths[:, None], -np.inf, log_values)
            if self._selector.path_prob > 0:
                log_values = np.where(tree.path_log_probs < np.log(self._selector.path_prob), -np.inf, log_values)
        self._valued = (tree, log_values, level)
        return log_values

    def _worst_kept(self, log_values: Array) -> Array | float:
        """[B, 1]: the value of the last of each tree's nodes within the budget; below it no descendant can be kept
        either."""
        budget = self._selector.limits.budget
        if log_values.shape[1] - 1 <= budget:
            return LOWEST
        return np.fmax(LOWEST, -np.partition(-log_values, budget, axis=1)[:, budget : budget + 1])

    def _level_gain(self, tree: DraftTree, log_values: Array, row: int, level: int) -> float:
        """Expected accepted tokens that the last level added, best budget against best budget (OPT-Tree)."""
        probs = np.exp(log_values[1:])
        before = np.where(tree.depths[row, 1:] < level, probs, 0.0)
        budget = self._selector.limits.budget
        return float(np.sort(probs)[::-1][:budget].sum() - np.sort(before)[::-1][:budget].sum())

    @cached_property
    def _prices(self) -> Prices:
        objective, context, limits = self._selector.objective, self._context, self._selector.limits
        assert objective is not None
        return objective.prices(
            context.mean_temperature,
            batch=context.batch,
            context=context.longest,
            budget=limits.budget,
            frontier=limits.frontier,
        )
