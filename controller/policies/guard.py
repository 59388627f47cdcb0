"""The guard: speculation that loses is switched off, and probed again at growing intervals (see `ledger`)."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..context import StepContext
from ..pricing.latency import LatencyTable
from ..pricing.objective import bucket
from ..trees.tree import Array, DraftTree
from .base import ShapePolicy, Step, num_committed
from .ledger import Ledger

# After as many, a mean that forgets a token by DECAYS[0] has three quarters of its weight on them.
RECENT_TOKENS = 4


class Guard:
    """A shape policy around another: lets it draft while that pays by the `clock` (seconds).

    A step is timed from its begin to its record: drafting, target, verification and commits. There is one decision
    for the whole batch, kept by batch size and temperature. The latency table, where there is one, says what a plain
    step costs before any was measured, and how that grows with the context. The clock decides about shapes only: the
    same requests may draft other trees the next time, but the walk keeps their text the same. The first step of a text
    reads its prompt and counts for neither side.

    While nothing will be decided for a while, the history is not kept: its last RECENT_TOKENS are those that a decision
    is made by, and its longer mean has a gap.
    """

    def __init__(
        self, policy: ShapePolicy, table: LatencyTable | None = None, *, clock: Callable[[], float] = perf_counter
    ):
        self.clock = clock
        self.information, self.limits = policy.information, policy.limits
        self.reads_history = policy.reads_history
        self.next_positions = np.zeros(0, dtype=np.int64)  # [B] where the texts go on, if they are the same
        self._policy = policy
        self._table = table
        self._ledgers: dict[tuple[int, float], Ledger] = {}  # by batch size and temperature

    def begin(self, context: StepContext) -> "GuardedStep":
        started = self.clock()
        ledger = self._ledger(context)
        is_first = not np.array_equal(context.positions, self.next_positions)
        is_check = not is_first and ledger.steps_to_check <= 0
        is_plain = is_check or not ledger.speculating or ledger.resting > 0
        self.reads_history = self._policy.reads_history and ledger.is_asked_within(RECENT_TOKENS)
        return GuardedStep(self, context, ledger, started, is_first, None if is_plain else self._policy.begin(context))

    def plain_price(self, context: StepContext) -> float:
        """Milliseconds of a plain step by the table; 1 without one, and costs are milliseconds then."""
        if self._table is None:
            return 1.0
        return float(self._table.verify_costs(0, batch=context.batch, context=context.longest)[0])

    def _ledger(self, context: StepContext) -> Ledger:
        key = bucket(context.batch, context.mean_temperature)
        if key not in self._ledgers:
            self._ledgers[key] = Ledger(f"batch {key[0]}, T = {key[1]:g}", has_price=self._table is not None)
        return self._ledgers[key]


@dataclass(frozen=True)
class GuardedStep:
    """A `Step` (see `base`); without a step of the policy inside it is plain: nothing is drafted, the root is kept."""

    guard: Guard
    context: StepContext
    ledger: Ledger
    started: float  # seconds, by the guard's clock
    is_first: bool  # of its requests
    inside: Step | None

    def frontier(self, tree: DraftTree) -> Array:
        return np.zeros((len(tree.tokens), 0), dtype=np.int64) if self.inside is None else self.inside.frontier(tree)

    def keep(self, tree: DraftTree) -> Array:
        return np.zeros((len(tree.tokens), 1), dtype=np.int64) if self.inside is None else self.inside.keep(tree)

    @property
    def log_values(self) -> Array | None:
        return None if self.inside is None else self.inside.log_values

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        cost = (self.guard.clock() - self.started) * 1e3 / self.guard.plain_price(self.context)
        num_tokens = num_committed(path)
        self.guard.next_positions = self.context.positions + num_tokens
        if self.inside is not None:
            self.inside.record(tree, level_widths, path)
            tokens, drafted = float(num_tokens.mean()), bool(level_widths)
            self.ledger.add_speculative(tokens, cost, drafted=drafted, counts=not self.is_first)
        else:
            self.ledger.add_plain(cost, counts=not self.is_first)
