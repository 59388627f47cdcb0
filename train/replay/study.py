"""The comparison of the report, by replay on held-out recordings: gains in total and by group, predicted lengths."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...controller.checkpoint import SelectorBundle
from ...controller.intervals import Interval, ratio_interval
from ...controller.plans.setting import Setting, rounded, temperature_title
from ...controller.policies.learned import LEARNED
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.tree import Array
from .deltas import OPT_TREE, DeltaRow, delta_rows
from .lengths import LengthFit, has_expectations, length_fit
from .machines import BudgetRow, MachineRow, budget_curves, machine_gains
from .oracle import oracle_ms
from .recording import Recording
from .replay import ReplayStats
from .steps import Run, replay_steps
from .tuning import gain, tuned_plans

log = logging.getLogger(__name__)

# Texts replayed per temperature, so that the report takes less time than the training.
MOST_TEXTS = 30
NUM_ENTROPY_BINS = 5
# The groups of tokens of a `TemperatureStudy`, and what they are grouped by.
GROUPINGS = {
    "by_domain": "by domain of the text",
    "by_entropy": "by the drafter's entropy before the token",
    "by_levels": "by levels the learned policy drafted",
}


@dataclass(frozen=True)
class PolicyRow:
    policy: str
    settings: str
    speed_up: Interval
    gain_of_learned: Interval
    total: ReplayStats


@dataclass(frozen=True)
class GroupRow:
    """Time of the best baseline over that of the learned policy on the tokens of one group."""

    group: str
    tokens: int
    gain: Interval


@dataclass(frozen=True)
class TemperatureStudy:
    temperature: float
    num_texts: int
    num_tokens: int
    policies: list[PolicyRow]
    oracle_speed_up: float
    best_baseline: str
    gain: Interval
    gap_closed: float  # share of the gap between the best baseline and the oracle
    lengths: dict[str, LengthFit]  # by policy
    by_domain: list[GroupRow]
    by_entropy: list[GroupRow]
    by_levels: list[GroupRow]

    def summary(self) -> dict[str, Any]:
        """What `metrics.json` keeps."""
        return {
            "temperature": self.temperature,
            "best_baseline": self.best_baseline,
            "gain": self.gain.rounded(4),
            "gap_closed": round(self.gap_closed, 4),
            "correlation": {name: round(fit.r, 4) for name, fit in self.lengths.items()},
            "correlation_attainable": {name: round(fit.r_attainable, 4) for name, fit in self.lengths.items()},
            "block_slope": {name: fit.block_slope.rounded(4) for name, fit in self.lengths.items()},
        }


@dataclass(frozen=True)
class Study:
    temperatures: list[TemperatureStudy]
    machines: list[MachineRow]
    budgets: list[BudgetRow]
    deltas: list[DeltaRow]


def study(selector: SelectorBundle, table: LatencyTable, recordings: Mapping[str, Sequence[Recording]]) -> Study:
    """Recordings by scheme, of test documents. Only temperatures with a tuned learned policy are studied."""
    found = Study([], [], [], [])
    for temperature, by_scheme in _by_temperature(recordings).items():
        runs = [
            replay_steps(plan, texts, table)
            for scheme, texts in by_scheme.items()
            for plan in tuned_plans(selector, table, Setting(scheme, temperature))
        ]
        if any(run.plan.family == LEARNED for run in runs):
            found.temperatures.append(_of_temperature(temperature, runs, table))
            _warn_of_loss(found.temperatures[-1])
            found.machines.extend(machine_gains(selector, table, temperature, runs))
            found.budgets.extend(budget_curves(selector, table, temperature, by_scheme[selector.config.scheme]))
            for run in runs:
                if run.plan.family == OPT_TREE:
                    found.deltas.extend(delta_rows(selector, table, temperature, run))
    return found


def _warn_of_loss(studied: TemperatureStudy) -> None:
    """Where the learned policy is slower than another, beyond the interval; one text has none."""
    if studied.num_texts > 1 and studied.gain.high < 1:
        log.warning(
            "%s: over %d held-out texts the learned policy is at %.2f [%.2f, %.2f] of %s by replay; collect more texts",
            temperature_title(studied.temperature),
            studied.num_texts,
            *studied.gain,
            studied.best_baseline,
        )


def _by_temperature(recordings: Mapping[str, Sequence[Recording]]) -> dict[float, dict[str, list[Recording]]]:
    """The first texts of each temperature by scheme; all schemes share the same ones."""
    known = [{text.text_id for text in texts} for texts in recordings.values() if texts]
    shared = set.intersection(*known) if known else set()
    found: dict[float, dict[str, list[Recording]]] = {}
    for scheme, texts in recordings.items():
        for text in texts:
            if text.text_id in shared:
                found.setdefault(rounded(text.temperature), {}).setdefault(scheme, []).append(text)
    return {
        temperature: {scheme: texts[:MOST_TEXTS] for scheme, texts in by_scheme.items()}
        for temperature, by_scheme in sorted(found.items())
    }


def _of_temperature(temperature: float, runs: Sequence[Run], table: LatencyTable) -> TemperatureStudy:
    learned = next(run for run in runs if run.plan.family == LEARNED)
    best = min((run for run in runs if run is not learned), key=lambda run: run.total.priced_ms)
    ideal_ms = sum(oracle_ms(text, table) for text in learned.texts)
    gap = best.total.priced_ms - ideal_ms
    return TemperatureStudy(
        temperature=temperature,
        num_texts=len(learned.texts),
        num_tokens=learned.total.num_tokens,
        policies=[_policy(run, learned) for run in runs],
        oracle_speed_up=learned.total.plain_ms / ideal_ms,
        best_baseline=best.plan.label,
        gain=gain(learned.stats, best.stats),
        gap_closed=(best.total.priced_ms - learned.total.priced_ms) / gap if gap > 0 else 0.0,
        lengths={run.plan.label: length_fit(run) for run in runs if has_expectations(run)},
        by_domain=_gains(learned, best, table, _domains(learned)),
        by_entropy=_gains(learned, best, table, _entropy_bins(learned)),
        by_levels=_gains(learned, best, table, _drafted_levels(learned)),
    )


def _policy(run: Run, learned: Run) -> PolicyRow:
    plain = [ReplayStats(priced_ms=stats.plain_ms) for stats in run.stats]
    return PolicyRow(run.plan.label, run.plan.text, gain(run.stats, plain), gain(learned.stats, run.stats), run.total)


def _gains(learned: Run, best: Run, table: LatencyTable, groups: tuple[Sequence[str], Array]) -> list[GroupRow]:
    """`groups` are names and the index of each token's group. Intervals are over texts, by their tokens in it."""
    text = np.repeat(np.arange(len(learned.texts)), [stats.num_tokens for stats in learned.stats])
    ms = [run.token_ms(table) for run in (learned, best)]
    rows = []
    for index, name in enumerate(groups[0]):
        here = groups[1] == index
        if not here.any():
            continue
        present = np.unique(text[here])
        ours, theirs = (np.bincount(text[here], values[here], len(learned.texts))[present] for values in ms)
        rows.append(GroupRow(name, int(here.sum()), ratio_interval(theirs, ours)))
    return rows


def _domains(run: Run) -> tuple[Sequence[str], Array]:
    names, indices = np.unique([text.domain for text in run.texts], return_inverse=True)
    return names.tolist(), np.repeat(indices, [stats.num_tokens for stats in run.stats])


def _entropy_bins(run: Run) -> tuple[Sequence[str], Array]:
    """Bins of equal counts by the drafter's entropy, in nats, where the token was drafted."""
    entropies: Array = np.concatenate([_entropies(text) for text in run.texts])
    known = np.isfinite(entropies)
    quantiles = np.quantile(entropies[known], np.linspace(0, 1, NUM_ENTROPY_BINS + 1)) if known.any() else np.zeros(1)
    inner = np.unique(quantiles[1:-1])
    borders = [f"{value:.2f}" for value in (quantiles[0], *inner, quantiles[-1])]
    names = [f"{low} to {high} nats" for low, high in pairwise(borders)]
    return [*names, "end of text"], np.where(known, np.searchsorted(inner, entropies, side="right"), len(names))


def _entropies(text: Recording) -> Array:
    """[tokens]: of the drafter's row at the token before; NaN where no envelope was grown."""
    envelopes = [text.envelopes.get(root) for root in range(text.prompt_length - 1, len(text.tokens) - 1)]
    return np.array([each.entropies[1] if each and len(each.entropies) > 1 else np.nan for each in envelopes])


def _drafted_levels(run: Run) -> tuple[Sequence[str], Array]:
    levels = run.per_token([len(step.widths) for steps in run.steps for step in steps]).astype(np.int64)
    return [f"{level} levels drafted" for level in range(int(levels.max(initial=0)) + 1)], levels
