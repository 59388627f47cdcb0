"""Tuning by replay: every policy tries its whole grid on the same recorded texts, priced by the same latency table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...controller.checkpoint import SelectorBundle
from ...controller.console import track
from ...controller.intervals import Interval, ratio_interval
from ...controller.plans.grids import policy_families
from ...controller.plans.plan import PolicyPlan
from ...controller.plans.setting import Setting, temperature_title
from ...controller.plans.tuned import PolicySettings, TunedSettings
from ...controller.pricing.latency import LatencyTable
from ..data.split import by_setting
from .oracle import ORACLE, oracle_ms
from .recording import Recording
from .replay import ReplayStats, replay

log = logging.getLogger(__name__)

# Texts of a temperature that a grid is tried on; half as many rank neighbouring settings by chance.
MOST_TEXTS = 32
# Of fewer texts, the fastest settings are those of one text: a chain for a text that refused, and twice theta.
LEAST_TEXTS = 8


class Trial(NamedTuple):
    """A plan and its sums over all texts."""

    plan: PolicyPlan
    total: ReplayStats


@dataclass(frozen=True)
class ReplayRow:
    """A tuned policy on held-out texts of one setting."""

    policy: str
    scheme: str
    temperature: float
    settings: str
    tokens_per_second: float
    speed_up: float
    block_efficiency: float
    levels_per_step: float
    nodes_per_step: float
    outside: int  # nodes asked for that no envelope holds

    @classmethod
    def of(cls, family: str, setting: Setting, settings: str, stats: ReplayStats) -> "ReplayRow":
        return cls(
            policy=family,
            scheme=setting.scheme,
            temperature=setting.temperature,
            settings=settings,
            tokens_per_second=round(1e3 * stats.tokens_per_ms, 1),
            speed_up=round(stats.speed_up, 3),
            block_efficiency=round(stats.block_efficiency, 3),
            levels_per_step=round(stats.levels_per_step, 2),
            nodes_per_step=round(stats.nodes_per_step, 2),
            outside=stats.num_outside,
        )


def tune(
    selector: SelectorBundle,
    table: LatencyTable,
    recordings: Mapping[str, Sequence[Recording]],
    *,
    least_texts: int = LEAST_TEXTS,
) -> TunedSettings:
    """Every policy's settings, best first; recordings by scheme, of validation documents. In the order of their grids
    where a setting has not the `least_texts` to rank them by."""
    ranked: dict[Setting, dict[str, list[PolicySettings]]] = {}
    for setting, texts in by_setting(recordings, selector.config.scheme).items():
        best_first = ranked.setdefault(setting, {})
        families = policy_families(selector, table, setting)
        if len(texts) < least_texts:
            log.warning(
                "%s: too few envelopes in validation documents to tune by, %d texts of at least %d, so every policy "
                "keeps the first of its settings; collect more with --envelopes.texts",
                temperature_title(setting.temperature),
                len(texts),
                least_texts,
            )
            best_first |= {family.name: list(family.grid) for family in families}
            continue
        for family in track(families, f"tune: {setting.scheme}, {temperature_title(setting.temperature)}"):
            trials = _try([family.plan(settings) for settings in family.grid], texts[:MOST_TEXTS], table)
            trials.sort(key=lambda trial: -trial.total.tokens_per_ms)
            best_first[family.name] = [trial.plan.settings for trial in trials]
    return TunedSettings(ranked)


def compare_tuned(
    selector: SelectorBundle, table: LatencyTable, recordings: Mapping[str, Sequence[Recording]]
) -> list[ReplayRow]:
    """One row per tuned policy on recordings of test documents, and one for the oracle."""
    rows = []
    for setting, texts in by_setting(recordings, selector.config.scheme).items():
        best = tuned_plans(selector, table, setting)
        if not best:
            log.warning(
                "%s occurs among the texts of test documents only, so no policy was tuned for it and none is "
                "compared; collect on more documents",
                temperature_title(setting.temperature),
            )
            continue
        trials = _try(best, texts, table)
        rows += [ReplayRow.of(trial.plan.family, setting, trial.plan.text, trial.total) for trial in trials]
        plain = trials[0].total
        ideal_ms = sum(oracle_ms(text, table) for text in texts)
        ideal = ReplayStats(num_tokens=plain.num_tokens, priced_ms=ideal_ms, plain_ms=plain.plain_ms)
        rows.append(ReplayRow.of(ORACLE, setting, "", ideal))
    return rows


def tuned_plans(selector: SelectorBundle, table: LatencyTable, setting: Setting) -> list[PolicyPlan]:
    """Of each policy that was tuned under this setting the best plan."""
    return [
        family.plan(best_first[0])
        for family in policy_families(selector, table, setting)
        if (best_first := selector.tuned.at(setting, family.name))
    ]


def gain(runs: Sequence[ReplayStats], others: Sequence[ReplayStats]) -> Interval:
    """Priced time of `others` over that of `runs` on the same texts, with its interval over texts."""
    return ratio_interval([run.priced_ms for run in others], [run.priced_ms for run in runs])


def _try(grid: Sequence[PolicyPlan], texts: Sequence[Recording], table: LatencyTable) -> list[Trial]:
    return [Trial(plan, ReplayStats.merged(replay(texts, plan.build(), table))) for plan in grid]
