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
    for the whole batch, kept by temperature and by the batch size that the latency table, where there is one, has
    prices of; it says what a plain step costs before any was measured, and how that grows with batch and context. The
    clock decides about shapes only: the same requests may draft other trees the next time, but the walk keeps their
    text the same.

    What the target reads of prompts it reads with speculation or without: its price is left out. Where that is not
    known, the first step of a text counts for neither side. What the drafter reads before its first draft is a cost of
    speculation, which counts bit by bit (see `ledger`).

    While nothing will be decided for a while, the history is not kept: its last RECENT_TOKENS are those that a decision
    is made by, and its longer mean has a gap.
    """

    def __init__(
        self, policy: ShapePolicy, table: LatencyTable | None = None, *, clock: Callable[[], float] = perf_counter
    ):
        self.clock = clock
        self.table = table
        self.information, self.limits = policy.information, policy.limits
        self.reads_history = policy.reads_history
        self.next_positions = np.zeros(0, dtype=np.int64)  # [B] where the texts go on, if they are the same
        self.plain_run = 0  # steps since one has drafted
        self._policy = policy
        self._ledgers: dict[tuple[int, float], Ledger] = {}  # by batch size and temperature

    def begin(self, context: StepContext) -> "GuardedStep":
        started = self.clock()
        ledger = self._ledger(context)
        goes_on = np.array_equal(context.positions, self.next_positions)
        counts = goes_on if context.num_unread is None else context.num_unread == 0 or self.table is not None
        is_check = counts and ledger.steps_to_check <= 0
        is_plain = is_check or not ledger.speculating or ledger.resting > 0
        self.reads_history = self._policy.reads_history and ledger.is_asked_within(RECENT_TOKENS)
        inside = None if is_plain else self._policy.begin(context)
        return GuardedStep(self, context, ledger, started, goes_on, counts, inside)

    def plain_price(self, context: StepContext, num_unread: int = 0) -> float:
        """Milliseconds of a plain step that reads so many tokens of prompts too, by the table; 1 without one, and costs
        are milliseconds then."""
        if self.table is None:
            return 1.0
        return self.table.plain_ms(num_unread, batch=context.batch, context=context.longest)

    def _ledger(self, context: StepContext) -> Ledger:
        batch = context.batch if self.table is None else self.table.measured_batch(context.batch)
        key = bucket(batch, context.mean_temperature)
        if key not in self._ledgers:
            self._ledgers[key] = Ledger(f"batch {key[0]}, T = {key[1]:g}", batch, has_price=self.table is not None)
        return self._ledgers[key]


@dataclass(frozen=True)
class GuardedStep:
    """A `Step` (see `base`); without a step of the policy inside it is plain: nothing is drafted, the root is kept."""

    guard: Guard
    context: StepContext
    ledger: Ledger
    started: float  # seconds, by the guard's clock
    goes_on: bool  # with the texts of the step before
    counts: bool  # because it is known what it cost
    inside: Step | None

    def frontier(self, tree: DraftTree) -> Array:
        return np.zeros((len(tree.tokens), 0), dtype=np.int64) if self.inside is None else self.inside.frontier(tree)

    def keep(self, tree: DraftTree) -> Array:
        return np.zeros((len(tree.tokens), 1), dtype=np.int64) if self.inside is None else self.inside.keep(tree)

    @property
    def log_values(self) -> Array | None:
        return None if self.inside is None else self.inside.log_values

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        guard, context = self.guard, self.context
        elapsed_ms = (guard.clock() - self.started) * 1e3
        plain = with_prompts = guard.plain_price(context)
        if context.num_unread:
            with_prompts = guard.plain_price(context, context.num_unread)
        num_tokens = num_committed(path)
        guard.next_positions = context.positions + num_tokens
        if self.inside is None:
            self.ledger.add_plain(elapsed_ms / with_prompts if self.counts else None)
        else:
            self.inside.record(tree, level_widths, path)
            cost = (elapsed_ms - self.ledger.plain_cost * (with_prompts - plain)) / plain if self.counts else None
            reads_more = guard.plain_run > 1 or not self.goes_on
            self.ledger.add_speculative(float(num_tokens.mean()), cost, drafted=bool(level_widths), spread=reads_more)
        guard.plain_run = 0 if level_widths else guard.plain_run + 1
