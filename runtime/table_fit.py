"""Whether a latency table still fits: what the parts of finished steps took, over what the table says they take.

The choice rule weighs prices against each other, so a table that is wrong by one factor misleads no choice. One whose
drafter levels are wrong by another factor than its target steps does.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from ..controller.pricing.latency import LatencyTable
from .stats import StepRecord

WINDOW_STEPS = 200  # over which the medians are taken; one slow minute shall not speak for a machine
MAX_SKEW = 1.25  # between drafter levels and target steps
MAX_SCALE = 2.0  # of everything alike: so far off is another machine, or another load

log = logging.getLogger(__name__)


class PartRatios(NamedTuple):
    """Measured over priced time of the two parts of a step, or their medians over steps."""

    drafting: float
    verifying: float

    @classmethod
    def medians(cls, steps: Sequence["PartRatios"]) -> "PartRatios":
        return cls(median(step.drafting for step in steps), median(step.verifying for step in steps))

    @property
    def fit(self) -> bool:
        """Whether the parts are off alike, and not both of them far off."""
        is_skewed = not 1 / MAX_SKEW <= self.drafting / self.verifying <= MAX_SKEW
        is_elsewhere = all(not 1 / MAX_SCALE <= ratio <= MAX_SCALE for ratio in self)
        return not is_skewed and not is_elsewhere

    @property
    def text(self) -> str:
        return f"drafter levels take {self.drafting:.2f} times and target steps {self.verifying:.2f} times what it says"


class StepRatios:
    """Holds the steps of one decoder against their prices, one after another.

    Only a step whose parts are what was profiled counts: the batch is the one of the step before, of a measured
    size, and drafts as it did in the step before. The first step of a text reads its prompt too, and after a step
    without drafts the drafter has more to read than the last tokens. Both parts of the same steps are compared, so
    that a machine which changes its pace for both does not look skewed.
    """

    def __init__(self, table: LatencyTable):
        self._table = table
        self._next_positions = np.zeros(0, dtype=np.int64)  # [B] of the next step, if it has the same requests
        self._drafted = False  # in the step before

    def of(self, record: StepRecord) -> PartRatios | None:
        """The ratios of the step, which follows the one asked about before; None where it does not count."""
        positions, widths = record.context.positions, record.level_widths
        goes_on = self._drafted and np.array_equal(positions, self._next_positions)
        self._drafted = bool(widths)
        self._next_positions = positions + record.verdict.accepted_lengths + 1
        if not widths or not goes_on:
            return None
        batch, context = record.context.batch, record.context.longest
        if batch not in self._table.batches:
            return None
        num_nodes = record.kept.tokens.shape[1] - 1  # what the smaller trees of a batch are padded to
        levels_ms = self._table.levels_ms(widths, batch=batch, context=context)
        target_ms = self._table.step_ms([], num_nodes, batch=batch, context=context)
        return PartRatios(record.drafting_ms / levels_ms, record.verifying_ms / target_ms)


@dataclass
class FitTotals:
    """How often a table was held against the steps of a window, and how often it did not fit."""

    windows: int = 0
    misfits: int = 0


class TableWatch:
    """An observer of the decode loop: takes the medians of one window of steps after another, and warns once."""

    def __init__(self, table: LatencyTable, totals: FitTotals | None = None):
        self.totals = FitTotals() if totals is None else totals
        self._ratios = StepRatios(table)
        self._window: list[PartRatios] = []

    def __call__(self, record: StepRecord) -> None:
        ratios = self._ratios.of(record)
        if ratios is None:
            return
        self._window.append(ratios)
        if len(self._window) < WINDOW_STEPS:
            return
        medians = PartRatios.medians(self._window)
        self._window.clear()
        self.totals.windows += 1
        if medians.fit:
            return
        self.totals.misfits += 1
        if self.totals.misfits == 1:
            log.warning(
                "the latency table does not fit this machine now: over %d steps %s; run `treewright profile`, with "
                "--sizes.contexts that reach as far as your texts, then start again",
                WINDOW_STEPS,
                medians.text,
            )
