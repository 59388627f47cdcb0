"""Tuning by replay: every policy tries its whole grid on the same recorded texts, priced by the same latency table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...controller.checkpoint import Checkpoint
from ...controller.console import track
from ...controller.contract import RANKED_SCHEMES
from ...controller.plans.grids import policy_families
from ...controller.plans.plan import PolicyPlan
from ...controller.plans.tuned import Settings, TunedSettings
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.tree import Array
from ..data.split import by_setting
from .oracle import oracle_ms
from .recording import Recording
from .replay import ReplayStats, replay

log = logging.getLogger(__name__)

# Texts of a temperature that a grid is tried on; half as many rank neighbouring settings by chance.
MOST_TEXTS = 32


@dataclass(frozen=True)
class Trial:
    """A plan and what it came to on each text."""

    plan: PolicyPlan
    runs: list[ReplayStats]

    @property
    def total(self) -> ReplayStats:
        return ReplayStats.merged(self.runs)


def tune(checkpoint: Checkpoint, table: LatencyTable, recordings: Mapping[str, Sequence[Recording]]) -> TunedSettings:
    """Every policy's settings, best first; recordings by scheme, of documents that choose."""
    ranked: dict[str, dict[float, dict[str, list[Settings]]]] = {}
    for scheme, temperature, texts in by_setting(recordings, checkpoint.config.scheme):
        families = policy_families(checkpoint, table, RANKED_SCHEMES[scheme], temperature)
        best_first = ranked.setdefault(scheme, {}).setdefault(temperature, {})
        for family in track(families, f"tune: {scheme}, T={temperature:g}"):
            trials = _try([family.plan(settings) for settings in family.grid], texts[:MOST_TEXTS], table)
            trials.sort(key=lambda trial: -trial.total.tokens_per_ms)
            best_first[family.name] = [trial.plan.settings for trial in trials]
    return TunedSettings(ranked)


def compare_tuned(
    checkpoint: Checkpoint, table: LatencyTable, recordings: Mapping[str, Sequence[Recording]], tuned: TunedSettings
) -> list[dict[str, Any]]:
    """One row per tuned policy on recordings of other documents, and one for the oracle."""
    rows = []
    for scheme, temperature, texts in by_setting(recordings, checkpoint.config.scheme):
        best = tuned_plans(checkpoint, table, scheme, temperature, tuned)
        if not best:
            log.warning(
                "T = %g occurs among the texts of test documents only, so no policy was tuned for it and none is "
                "compared; collect on more documents",
                temperature,
            )
            continue
        trials = _try(best, texts, table)
        rows += [_row(trial.plan.family, scheme, temperature, trial.plan.text, trial.total) for trial in trials]
        ideal_ms = sum(oracle_ms(text, table) for text in texts)
        plain = trials[0].total
        ideal = ReplayStats(num_tokens=plain.num_tokens, priced_ms=ideal_ms, plain_ms=plain.plain_ms)
        rows.append(_row("oracle", scheme, temperature, "", ideal))
    return rows


def tuned_plans(
    checkpoint: Checkpoint, table: LatencyTable, scheme: str, temperature: float, tuned: TunedSettings
) -> list[PolicyPlan]:
    """Of each policy that was tuned at this temperature the best plan."""
    return [
        family.plan(settings[0])
        for family in policy_families(checkpoint, table, RANKED_SCHEMES[scheme], temperature)
        if (settings := tuned.at(scheme, temperature, family.name))
    ]


def gain(runs: Sequence[ReplayStats], others: Sequence[ReplayStats], seed: int = 0) -> tuple[float, float, float]:
    """Priced time of `others` over that of `runs` on the same texts, with a bootstrap 95 % interval over texts."""
    ms: Array = np.array([[run.priced_ms for run in group] for group in (others, runs)])
    picks = np.random.default_rng(seed).integers(ms.shape[1], size=(2000, ms.shape[1]))
    drawn = ms[:, picks].sum(axis=2)
    low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
    return float(ms[0].sum() / ms[1].sum()), float(low), float(high)


def _try(grid: Sequence[PolicyPlan], texts: Sequence[Recording], table: LatencyTable) -> list[Trial]:
    return [Trial(plan, replay(texts, plan.build(), table)) for plan in grid]


def _row(family: str, scheme: str, temperature: float, settings: str, stats: ReplayStats) -> dict[str, Any]:
    steps = max(1, stats.num_steps)
    return {
        "policy": family,
        "scheme": scheme,
        "temperature": temperature,
        "settings": settings,
        "tokens_per_second": round(1e3 * stats.tokens_per_ms, 1),
        "speed_up": round(stats.speed_up, 3),
        "block_efficiency": round(stats.block_efficiency, 3),
        "levels_per_step": round(stats.num_levels / steps, 2),
        "nodes_per_step": round(stats.num_kept / steps, 2),
        "outside": stats.num_outside,
    }
