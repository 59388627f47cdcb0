"""The selector: which nodes to draft under next, and which drafted nodes the target verifies.

Every tree policy is a scorer and a way to choose how many nodes: a fixed budget (static trees, EAGLE-2's growth and
re-rank), a least gain per level (OPT-Tree's delta), or the choice rule over a latency table.
"""

import numpy as np

from ..context import StepContext
from ..contract import Information
from ..pricing.objective import Objective, Prices, best_size, best_width
from ..scorers.base import Scorer
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree

LOWEST = float(np.finfo(np.float32).min)  # of what is not -inf
NO_NODES = np.zeros(0, dtype=np.int64)


class Selector:
    """The only shape policy; see the module's docstring for what the arguments turn it into.

    `min_prob` drops the children of a node whose next-token maximum probability is below it; `path_prob` cuts a
    branch whose cumulative drafter probability is below it; `delta` ends drafting once a level adds less expected
    accepted tokens than this; `objective` prices nodes and levels (the budget stays the upper limit).
    """

    information = Information.ANYTHING

    def __init__(
        self,
        scorer: Scorer,
        limits: TreeLimits,
        *,
        min_prob: float = 0.0,
        path_prob: float = 0.0,
        delta: float = 0.0,
        objective: Objective | None = None,
    ):
        self.scorer = scorer
        self.limits = limits
        self.min_prob = min_prob
        self.path_prob = path_prob
        self.delta = delta
        self.objective = objective
        # What was asked about last, and its values: frontier and keep ask about one tree, a step about a growing one.
        self._graded: tuple[DraftTree, StepContext, Array] | None = None
        # The prices of the last step asked about.
        self._priced: tuple[StepContext, Prices] | None = None

    @property
    def reads_history(self) -> bool:
        return self.scorer.reads_history

    def frontier(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, F]: nodes of the last level to expand, best first, -1 where a tree has fewer; F = 0 ends drafting."""
        level = int(tree.depths.max())
        if level >= self.limits.max_depth:
            return np.zeros((len(tree.tokens), 0), dtype=np.int64)
        log_values = self._log_values(tree, context)
        coverage = self.scorer.coverage(tree, context)[:, :, : self.limits.num_children]
        nodes = _padded(
            [
                self._open_nodes(row, level, tree, log_values[row], coverage[row]) if level < max_depth else NO_NODES
                for row, max_depth in enumerate(context.max_depths.tolist())
            ]
        )
        if not nodes.shape[1] or self.objective is None:
            return nodes
        rows = np.arange(len(nodes))[:, None]
        predicted = np.exp(log_values[rows, nodes][:, :, None] + coverage[rows, nodes])
        predicted[nodes < 0] = 0.0
        prices = self._prices(context, self.objective)
        return nodes[:, : best_width(np.exp(log_values[:, 1:]), predicted, prices, level)]

    def _open_nodes(self, row: int, level: int, tree: DraftTree, log_values: Array, coverage: Array) -> Array:
        """Of one tree's nodes of the last `level` those worth looking at, best first, as many as may be expanded."""
        if level and self.delta and self._level_gain(tree, log_values, row, level) < self.delta:
            return NO_NODES
        # NaN compares false: under such a node nothing is drafted.
        worth_it = log_values >= self._worst_kept(log_values)
        worth_it &= (tree.depths[row] == level) & (coverage.max(axis=1, initial=-np.inf) >= LOWEST)
        nodes = np.nonzero(worth_it)[0]
        return nodes[np.argsort(-log_values[nodes], kind="stable")[: self.limits.frontier]]

    def keep(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, K]: nodes to verify, ascending, the root first, -1 behind each tree's last; parent-closed."""
        log_values = self._log_values(tree, context)
        order = np.argsort(-log_values, axis=1, kind="stable")
        size = min(log_values.shape[1] - 1, self.limits.budget)
        if self.objective is not None:
            probs = np.exp(np.take_along_axis(log_values, order[:, 1 : size + 1], axis=1))
            size = best_size(probs, self._prices(context, self.objective))
        counts = np.minimum(np.isfinite(log_values).sum(axis=1) - 1, size)
        return _padded([np.sort(chosen[: count + 1]) for chosen, count in zip(order, counts.tolist(), strict=True)])

    def record(self, tree: DraftTree, context: StepContext, level_widths: list[int], num_tokens: Array) -> None:
        """Tell the objective what the step with the kept `tree` committed; widths are of its drafter levels."""
        if self.objective is None:
            return
        batch, position = len(context.positions), int(context.positions.max())
        price = self.objective.table.step_ms(level_widths, tree.tokens.shape[1] - 1, batch=batch, context=position)
        place = {"batch": batch, "context": position}
        self.objective.record(context.mean_temperature, float(num_tokens.sum()), price, **place)

    def _log_values(self, tree: DraftTree, context: StepContext) -> Array:
        """[B, N]: log-probability that the text runs through the node; -inf where a threshold cuts it."""
        graded = self._graded
        if graded is not None and graded[0] is tree and graded[1] is context:
            return graded[2]
        if tree.tokens.shape[1] == 1:
            log_values = np.zeros(tree.tokens.shape)
        else:
            edges = np.minimum(self.scorer.score(tree, context), 0.0, dtype=np.float64)
            if self.min_prob > 0:
                edges = np.where(tree.top_log_probs < np.log(self.min_prob), -np.inf, edges)
            # Within a step, the tree has grown by its last level.
            log_values = tree.path_sums(edges, graded[2] if graded is not None and graded[1] is context else None)
            if self.path_prob > 0:
                log_values = np.where(tree.path_log_probs < np.log(self.path_prob), -np.inf, log_values)
        self._graded = (tree, context, log_values)
        return log_values

    def _worst_kept(self, log_values: Array) -> float:
        """The value of the last of one tree's nodes within the budget; below it no descendant can be kept either."""
        budget = self.limits.budget
        if len(log_values) - 1 <= budget:
            return LOWEST
        return max(LOWEST, float(-np.partition(-log_values, budget)[budget]))

    def _level_gain(self, tree: DraftTree, log_values: Array, row: int, level: int) -> float:
        """Expected accepted tokens that the last level added, best budget against best budget (OPT-Tree)."""
        probs = np.exp(log_values[1:])
        before = np.where(tree.depths[row, 1:] < level, probs, 0.0)
        budget = self.limits.budget
        return float(np.sort(probs)[::-1][:budget].sum() - np.sort(before)[::-1][:budget].sum())

    def _prices(self, context: StepContext, objective: Objective) -> Prices:
        """Those of the step, the same throughout it."""
        if self._priced is None or self._priced[0] is not context:
            prices = objective.prices(
                context.mean_temperature,
                batch=len(context.positions),
                context=int(context.positions.max()),
                budget=self.limits.budget,
                frontier=self.limits.frontier,
            )
            self._priced = (context, prices)
        return self._priced[1]


def _padded(chosen: list[Array]) -> Array:
    """Stack lists of nodes of different lengths, -1 behind the shorter ones."""
    nodes = np.full((len(chosen), max(map(len, chosen))), -1, dtype=np.int64)
    for row, picked in enumerate(chosen):
        nodes[row, : len(picked)] = picked
    return nodes
