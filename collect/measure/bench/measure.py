"""Interleaved runs of many policies on the same prompts, and the paired statistics of what came out."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....controller.console import print_table, track
from ....controller.intervals import Interval, ratio_interval
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.setting import temperature_title
from ....runtime.stats import DecodeStats
from ....runtime.table_fit import PartRatios
from .policies import Job, Policy, Run

# Of the first round, which is dropped.
WARM_UP_TOKENS = 8


def run_interleaved(policies: Sequence[Policy], jobs: Sequence[Job], label: str) -> list[list[Run]]:
    """[policy][job]: every policy on every job; per job the order is shuffled, and a first short round is dropped."""
    generator = np.random.default_rng(0)
    for policy in policies:
        policy.run(jobs[0]._replace(max_tokens=WARM_UP_TOKENS))
    runs: list[list[Run]] = [[] for _ in policies]
    for job in track(jobs, label):
        for number in generator.permutation(len(policies)):
            runs[number].append(policies[number].run(job))
    return runs


def tuned(
    grids: Sequence[Sequence[PolicyPlan]], make: Callable[[PolicyPlan], Policy], jobs: Sequence[Job], label: str
) -> list[PolicyPlan]:
    """The plan of each grid with the most tokens per priced millisecond.

    Steps are priced by the latency table: on few short texts a clock says more about the machine than about a policy.
    """
    plans = [plan for grid in grids for plan in grid]
    runs = iter(run_interleaved([make(plan) for plan in plans], jobs, label))
    chosen = []
    for grid in grids:
        speeds = [tokens_per_priced_ms(next(runs)) for _ in grid]
        chosen.append(grid[int(np.argmax(speeds))])
    return chosen


def tokens_per_priced_ms(runs: Sequence[Run]) -> float:
    return sum(len(run.tokens) for run in runs) / sum(run.priced_ms for run in runs)


def tokens_per_second(runs: Sequence[Run]) -> float:
    return sum(len(run.tokens) for run in runs) / sum(run.seconds for run in runs)


def speed_up(runs: Sequence[Run], plain: Sequence[Run]) -> Interval:
    """Ratio of tokens per second to `plain` on the same jobs, with its interval over jobs; NaN bounds for one job."""
    ratio = ratio_interval([run.seconds for run in plain], [run.seconds for run in runs])
    return ratio if len(runs) > 1 else Interval(ratio.value, float("nan"), float("nan"))


def worst_decile(ratios: Sequence[float]) -> float:
    """Mean of the lowest tenth, at least one: given each request's speed-up, what the unluckiest ones get."""
    lowest = np.sort(ratios)[: -(-len(ratios) // 10)]
    return float(lowest.mean())


def by_domain(jobs: Sequence[Job], runs: Sequence[Run], plain: Sequence[Run]) -> dict[str, float]:
    """Ratio of tokens per second to `plain` in each domain of the prompts."""
    domains = [job.domain for job in jobs]
    ratios = {}
    for domain in dict.fromkeys(domains):
        inside = [number for number, other in enumerate(domains) if other == domain]
        seconds = [sum(of_policy[number].seconds for number in inside) for of_policy in (plain, runs)]
        ratios[domain] = round(seconds[0] / seconds[1], 3)
    return ratios


def summarise(policy: Policy, jobs: Sequence[Job], runs: Sequence[Run], plain: Sequence[Run]) -> dict[str, Any]:
    """One row of the report; `runs` and `plain` are of `jobs`."""
    ratio, low, high = speed_up(runs, plain)
    ratios = [before.seconds / after.seconds for before, after in zip(plain, runs, strict=True)]
    row: dict[str, Any] = {
        "policy": policy.family,
        "scheme": policy.scheme,
        "settings": policy.settings,
        "tokens_per_second": round(tokens_per_second(runs), 1),
        "speed_up": round(ratio, 3),
        "speed_up_95": [round(low, 3), round(high, 3)],
        "speed_up_worst_decile": round(worst_decile(ratios), 3),
        "speed_up_by_domain": by_domain(jobs, runs, plain),
    }
    stats = DecodeStats.merged(run.stats for run in runs if run.stats is not None)
    if stats.num_steps:
        row |= {
            "block_efficiency": round(stats.block_efficiency, 3),
            "nodes_per_step": round(stats.nodes_per_step, 2),
            "drafted_per_step": round(stats.num_drafted / stats.num_steps, 2),
            "acceptance_rate": round(stats.acceptance_rate, 3),
            "controller_share": round(stats.controller_share, 4),
            "step_ms_p50_p95_p99": [round(float(value), 2) for value in np.percentile(stats.step_ms, [50, 95, 99])],
        }
        if policy.same_text:
            row["texts_unlike_plain"] = sum(a.tokens != b.tokens for a, b in zip(runs, plain, strict=True))
    return row


def over_others(family: str, policies: Sequence[Policy], runs: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """The runs of `family` against those of the policy that was the fastest here of all that are not of it."""
    (own,) = (number for number, policy in enumerate(policies) if policy.family == family)
    others = [number for number, policy in enumerate(policies) if not policy.family.startswith(family)]
    best = max(others, key=lambda number: tokens_per_second(runs[number]))
    ratio, low, high = speed_up(runs[own], runs[best])
    name = f"{policies[best].family} ({policies[best].scheme})"
    return {"fastest_other": name, "ratio": round(ratio, 3), "ratio_95": [round(low, 3), round(high, 3)]}


def table_fit(runs: Sequence[Sequence[Run]]) -> PartRatios | None:
    """What the steps of all policies' runs took over what the latency table says; None where no step tells."""
    steps = [step for of_policy in runs for run in of_policy for step in run.ratios]
    return PartRatios.medians(steps) if steps else None


def repeated_four_grams(texts: Sequence[Sequence[int]]) -> float:
    """Share of 4-grams that occurred before in their text: how far a small model's text loops."""
    repeated = total = 0
    for tokens in texts:
        grams = Counter(zip(*(tokens[start:] for start in range(4)), strict=False))
        total += sum(grams.values())
        repeated += sum(grams.values()) - len(grams)
    return repeated / total if total else 0.0


def fit_sentence(fit: PartRatios | None) -> str:
    """How the latency table, by which policies choose and are tuned, agrees with the clock that measured them."""
    if fit is None:
        return "No step says whether the latency table fits; measure more tokens."
    if fit.fit:
        return f"The latency table fits: {fit.text}."
    return f"Warning: the machine changed since its prices were measured: {fit.text}. Bench again when it is quiet."


def print_policies(
    temperature: float, rows: Sequence[dict[str, Any]], jobs: Sequence[Job], repeated: float, *, is_tuned: bool
) -> None:
    """The table of `summarise`d policies."""
    shown = [
        {
            "policy": row["policy"],
            "scheme": row["scheme"],
            "tuned to" if is_tuned else "untuned settings": row["settings"],
            "tokens/s": row["tokens_per_second"],
            "x plain [95 %]": f"{row['speed_up']:.2f} [{row['speed_up_95'][0]:.2f}, {row['speed_up_95'][1]:.2f}]",
            "worst tenth": row["speed_up_worst_decile"],
            "block eff.": row.get("block_efficiency", "-"),
            "nodes/step": row.get("nodes_per_step", "-"),
            "drafted/step": row.get("drafted_per_step", "-"),
            "accepted": f"{row['acceptance_rate']:.0%}" if "acceptance_rate" in row else "-",
            "same text": f"{len(jobs) - row['texts_unlike_plain']}/{len(jobs)}" if "texts_unlike_plain" in row else "-",
            "controller": f"{row['controller_share']:.1%}" if "controller_share" in row else "-",
        }
        for row in rows
    ]
    size = f"{len(jobs)} prompts x {jobs[0].max_tokens} tokens"
    title = f"{temperature_title(temperature)}, batch 1, {size}, repeated 4-grams {repeated:.0%}"
    print_table(title, shown)
