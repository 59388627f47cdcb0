"""The numbers of the report, by replay on held-out recordings: gains, predictions, where it wins and where it loses."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...controller.checkpoint import Checkpoint
from ...controller.plans.tuned import TunedSettings
from ...controller.policies.learned import LEARNED
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.tree import Array
from ..report.lengths import has_expectations, lengths
from ..report.machines import budget_curves, machine_gains
from ..report.steps import Run, watch
from .oracle import oracle_ms
from .recording import Recording
from .replay import ReplayStats
from .tuning import gain, tuned_plans

# Texts replayed per temperature; the report shall not take longer than the training.
MOST_TEXTS = 30
NUM_ENTROPY_BINS = 5


def study(
    checkpoint: Checkpoint,
    table: LatencyTable,
    recordings: Mapping[str, Sequence[Recording]],
    tuned: TunedSettings,
) -> dict[str, Any]:
    """Recordings by scheme, none of them tuned on; `tuned` is what `tuning.tune` answered. JSON-serialisable.

    Only temperatures with a tuned learned policy are studied.
    """
    rows, machines, budgets = [], [], []
    for temperature, by_scheme in _by_temperature(recordings).items():
        runs = []
        for scheme, texts in by_scheme.items():
            plans = tuned_plans(checkpoint, table, scheme, temperature, tuned)
            runs += [watch(plan, texts, table) for plan in plans]
        if any(run.plan.family == LEARNED for run in runs):
            rows.append(_temperature(temperature, runs, table))
            machines += machine_gains(checkpoint, table, temperature, runs)
            budgets += budget_curves(checkpoint, table, temperature, by_scheme[checkpoint.config.scheme])
    return {"temperatures": rows, "machines": machines, "budgets": budgets}


def essentials(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a checkpoint keeps of a study."""
    return [
        {
            "temperature": row["temperature"],
            "best_baseline": row["best_baseline"],
            "gain": [round(value, 4) for value in row["gain"]],
            "gap_closed": round(row["gap_closed"], 4),
            "correlation": {name: round(fit["r"], 4) for name, fit in row["lengths"].items()},
            "correlation_attainable": {name: round(fit["r_attainable"], 4) for name, fit in row["lengths"].items()},
            "block_slope": {
                name: [round(value, 4) for value in fit["block_slope"]] for name, fit in row["lengths"].items()
            },
        }
        for row in numbers["temperatures"]
    ]


def _by_temperature(recordings: Mapping[str, Sequence[Recording]]) -> dict[float, dict[str, list[Recording]]]:
    """The first texts of each temperature by scheme; all schemes share the same ones."""
    known = [{text.text_id for text in texts} for texts in recordings.values() if texts]
    shared = set.intersection(*known) if known else set()
    found: dict[float, dict[str, list[Recording]]] = {}
    for scheme, texts in recordings.items():
        for text in texts:
            if text.text_id in shared:
                found.setdefault(round(text.temperature, 3), {}).setdefault(scheme, []).append(text)
    return {
        temperature: {scheme: texts[:MOST_TEXTS] for scheme, texts in by_scheme.items()}
        for temperature, by_scheme in sorted(found.items())
    }


def _temperature(temperature: float, runs: Sequence[Run], table: LatencyTable) -> dict[str, Any]:
    """What is told of one temperature."""
    learned = next(run for run in runs if run.plan.family == LEARNED)
    baselines = [run for run in runs if run is not learned]
    best = min(baselines, key=lambda run: run.total.priced_ms)
    ideal_ms = sum(oracle_ms(text, table) for text in learned.texts)
    gap = best.total.priced_ms - ideal_ms
    return {
        "temperature": temperature,
        "num_texts": len(learned.texts),
        "num_tokens": learned.total.num_tokens,
        "policies": [_policy(run, learned) for run in runs],
        "oracle_speed_up": learned.total.plain_ms / ideal_ms,
        "best_baseline": best.label,
        "gain": list(gain(learned.stats, best.stats)),
        "gap_closed": (best.total.priced_ms - learned.total.priced_ms) / gap if gap > 0 else 0.0,
        "lengths": {run.label: lengths(run) for run in runs if has_expectations(run)},
        "by_domain": _gains(learned, best, table, _domains(learned)),
        "by_entropy": _gains(learned, best, table, _entropy_bins(learned)),
        "by_levels": _gains(learned, best, table, _drafted_levels(learned)),
    }


def _policy(run: Run, learned: Run) -> dict[str, Any]:
    total = run.total
    plain = [ReplayStats(priced_ms=stats.plain_ms) for stats in run.stats]
    return {
        "policy": run.label,
        "settings": run.plan.text,
        "speed_up": list(gain(run.stats, plain)),
        "gain_of_learned": list(gain(learned.stats, run.stats)),
        "block_efficiency": total.block_efficiency,
        "levels_per_step": total.num_levels / max(1, total.num_steps),
        "nodes_per_step": total.num_kept / max(1, total.num_steps),
        "outside": total.num_outside,
    }


def _gains(learned: Run, best: Run, table: LatencyTable, groups: tuple[Sequence[str], Array]) -> list[dict[str, Any]]:
    """Time of the best baseline over that of the learned policy on the same tokens, one row per group of tokens.

    `groups` are names and each token's place among them. Intervals are over texts, by their tokens in the group.
    """
    text = np.repeat(np.arange(len(learned.texts)), [stats.num_tokens for stats in learned.stats])
    ms = [run.token_ms(table) for run in (learned, best)]
    rows = []
    for place, name in enumerate(groups[0]):
        here = groups[1] == place
        if not here.any():
            continue
        present = np.unique(text[here])
        sums = [np.bincount(text[here], values[here], len(learned.texts))[present] for values in ms]
        ours, theirs = ([ReplayStats(priced_ms=float(value)) for value in group] for group in sums)
        rows.append({"group": name, "tokens": int(here.sum()), "gain": list(gain(ours, theirs))})
    return rows


def _domains(run: Run) -> tuple[Sequence[str], Array]:
    names, places = np.unique([text.domain for text in run.texts], return_inverse=True)
    return names.tolist(), np.repeat(places, [stats.num_tokens for stats in run.stats])


def _entropy_bins(run: Run) -> tuple[Sequence[str], Array]:
    """Bins of equal counts by the drafter's entropy, in nats, where the token was to be guessed."""
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
