"""The report of a benchmark: a row per policy, who is fastest, and whether the latency table fits the clock."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ....controller.console import print_table
from ....runtime.stats import DecodeStats
from ....runtime.table_fit import PartRatios
from .measure import Speed, num_unlike, tokens_per_second
from .policies import Job, Policy, Run


@dataclass(frozen=True)
class PolicyRow:
    """One policy at one temperature; None where the loop is not ours and does not report it."""

    policy: str
    scheme: str
    settings: str
    tokens_per_second: float
    speed_up: float
    speed_up_95: list[float]
    speed_up_worst_decile: float
    speed_up_by_domain: dict[str, float]
    block_efficiency: float | None = None
    nodes_per_step: float | None = None
    drafted_per_step: float | None = None
    drafting_share: float | None = None  # of the steps, those that drafted anything
    acceptance_rate: float | None = None
    controller_share: float | None = None
    step_ms_p50_p95_p99: list[float] | None = None
    texts_unlike_plain: int | None = None  # None too where another verifier than the walk generates other texts


class Comparison(NamedTuple):
    """A policy against the fastest of the others on the same jobs."""

    fastest_other: str
    ratio: float
    ratio_95: list[float]


def known(row: Any) -> dict[str, Any]:
    """A dataclass as JSON, without the fields that are None."""
    return {name: value for name, value in asdict(row).items() if value is not None}


def worst_decile(ratios: Sequence[float]) -> float:
    """Mean of the lowest tenth, at least one: given each request's speed-up, the speed-up of the slowest ones."""
    lowest = np.sort(ratios)[: -(-len(ratios) // 10)]
    return float(lowest.mean())


def by_domain(jobs: Sequence[Job], runs: Sequence[Run], plain: Sequence[Run]) -> dict[str, float]:
    """Ratio of tokens per second to `plain` in each domain of the prompts."""
    seconds = {job.domain: np.zeros(2) for job in jobs}
    for job, run, other in zip(jobs, runs, plain, strict=True):
        seconds[job.domain] += (other.seconds, run.seconds)
    return {domain: round(float(before / after), 3) for domain, (before, after) in seconds.items()}


def summarise(policy: Policy, jobs: Sequence[Job], runs: Sequence[Run], plain: Sequence[Run]) -> PolicyRow:
    """One row of the report; `runs` and `plain` are of `jobs`."""
    row = PolicyRow(
        policy.family,
        policy.scheme,
        policy.settings,
        *Speed.of(runs, plain),
        round(worst_decile([before.seconds / after.seconds for before, after in zip(plain, runs, strict=True)]), 3),
        by_domain(jobs, runs, plain),
    )
    stats = DecodeStats.merged(run.stats for run in runs if run.stats is not None)
    if not stats.num_steps:
        return row
    return replace(
        row,
        block_efficiency=round(stats.block_efficiency, 3),
        nodes_per_step=round(stats.nodes_per_step, 2),
        drafted_per_step=round(stats.num_drafted / stats.num_steps, 2),
        drafting_share=round(stats.num_drafting / stats.num_steps, 3),
        acceptance_rate=round(stats.acceptance_rate, 3),
        controller_share=round(stats.controller_share, 4),
        step_ms_p50_p95_p99=[round(float(value), 2) for value in np.percentile(stats.step_ms, [50, 95, 99])],
        texts_unlike_plain=num_unlike(runs, plain) if policy.same_text else None,
    )


def over_others(family: str, policies: Sequence[Policy], runs: Sequence[Sequence[Run]]) -> Comparison:
    """The runs of `family` against those of the fastest policy of any other family."""
    (own,) = (number for number, policy in enumerate(policies) if policy.family == family)
    others = [number for number, policy in enumerate(policies) if not policy.family.startswith(family)]
    best = max(others, key=lambda number: tokens_per_second(runs[number]))
    speed = Speed.of(runs[own], runs[best])
    return Comparison(f"{policies[best].family} ({policies[best].scheme})", speed.speed_up, speed.speed_up_95)


def table_fit(runs: Sequence[Sequence[Run]]) -> PartRatios | None:
    """Measured over priced milliseconds, the median over the steps of all policies; None where no step has a price."""
    steps = [step for of_policy in runs for run in of_policy for step in run.ratios]
    return PartRatios.medians(steps) if steps else None


def fit_sentence(fit: PartRatios | None) -> str:
    """How the latency table, by which policies choose and are tuned, agrees with the clock that measured them."""
    if fit is None:
        return "No step shows whether the latency table fits; measure more tokens."
    if fit.fit:
        return f"The latency table fits: {fit.text}."
    return f"Warning: the machine changed since its prices were measured: {fit.text}. Bench again when it is quiet."


def print_policies(
    temperature: float, rows: Sequence[PolicyRow], jobs: Sequence[Job], repeated: float, *, is_tuned: bool
) -> None:
    """The table of `summarise`d policies."""
    shown = [
        {
            "policy": row.policy,
            "scheme": row.scheme,
            "tuned to" if is_tuned else "untuned settings": row.settings,
            "tokens/s": row.tokens_per_second,
            "x plain [95 %]": interval_text(row.speed_up, row.speed_up_95),
            "worst tenth": row.speed_up_worst_decile,
            "block eff.": or_dash(row.block_efficiency),
            "nodes/step": or_dash(row.nodes_per_step),
            "drafted/step": or_dash(row.drafted_per_step),
            "accepted": or_dash(row.acceptance_rate, "{:.0%}"),
            "same text": same_text(row.texts_unlike_plain, len(jobs)),
            "controller": or_dash(row.controller_share, "{:.1%}"),
        }
        for row in rows
    ]
    size = f"{len(jobs)} prompts x {jobs[0].max_tokens} tokens"
    title = f"T = {temperature:g}, batch 1, {size}, repeated 4-grams {repeated:.0%}"
    print_table(title, shown)


def or_dash(value: float | None, form: str = "{}") -> str:
    """A cell of a table; a dash where the value is not known."""
    return "-" if value is None else form.format(value)


def interval_text(ratio: float, ratio_95: Sequence[float]) -> str:
    return f"{ratio:.2f} [{ratio_95[0]:.2f}, {ratio_95[1]:.2f}]"


def same_text(num_unlike: int | None, count: int) -> str:
    return "-" if num_unlike is None else f"{count - num_unlike}/{count}"
