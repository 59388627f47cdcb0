"""What a stack of drafters is worth: the same policies above a stage that guesses ahead, and each drafter alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ....controller.checkpoint import SelectorBundle
from ....controller.console import print_table
from ....controller.contract import ALL_SCHEMES, FIXED
from ....controller.intervals import ratio_interval
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.setting import Setting, temperature_key
from ....controller.policies.learned import LEARNED
from ....controller.policies.selector import Selector
from ....controller.policies.sequoia import static_selector
from ....controller.pricing.latency import LatencyTable
from ....controller.pricing.stacks import stacked_table
from ....controller.trees.shapes import chain
from ....runtime.build import tree_decoder
from ....runtime.drafters.lookup import LookupDrafter
from ....runtime.drafters.stacks.build import stacked_drafter
from ....runtime.pair import Pair
from ....runtime.stats import DecodeStats
from ...prompts.prompt import Prompt
from .finalists import finalists
from .jobs import bench_jobs, conditions
from .measure import Speed, num_unlike, repeated_four_grams, run_interleaved
from .policies import Job, Policy, Run, plain_policy, planned_policy, runner
from .settings import BenchConfig

# The choice rule without a network, and with one.
FAMILIES = ("choice, fused", LEARNED)
LOOKUP_DEPTH = 4
ALONE, NOTHING_AHEAD = "alone", "stack that guesses nothing"


class Stacked(NamedTuple):
    """A policy of a family, and what drafts below it."""

    family: str
    drafters: str
    policy: Policy


def stack_report(
    pair: Pair, tables: Sequence[LatencyTable], checkpoint: SelectorBundle, prompts: list[Prompt], measure: BenchConfig
) -> dict[str, Any]:
    """The report as JSON. `tables` are that of the pair's drafter and, in a stack, of the smaller one."""
    reports = {}
    for temperature in measure.temperatures:
        jobs = bench_jobs(pair, prompts, measure, temperature)
        reports[temperature_key(temperature)] = stack_rows(pair, tables, checkpoint, measure.ahead, jobs)
    return {"command": "bench", **conditions(pair), "prompts": len(prompts), "temperatures": reports}


def stack_rows(
    pair: Pair, tables: Sequence[LatencyTable], checkpoint: SelectorBundle, ahead: Sequence[int], jobs: Sequence[Job]
) -> dict[str, Any]:
    """Rows per family and drafters, as JSON; each family has the settings that replay found best for a single drafter.
    Printed as a table, too."""
    setting = Setting(checkpoint.config.scheme, jobs[0].sampling.temperature)
    ways: list[Stacked] = []
    for family in FAMILIES:
        singles = [(ALONE, pair)] if pair.below is None else [(ALONE, pair), (f"{ALONE}, the smaller", pair.below)]
        for (name, of), table in zip(singles, tables, strict=True):
            ways.append(Stacked(family, name, planned_policy(of, _plan(checkpoint, table, setting, family), table)))
        for size in (0, *ahead):
            table = tables[0] if pair.below is None or not size else stacked_table(tables[0], tables[1], size)
            plan = _plan(checkpoint, table, setting, family)
            name = f"{size} ahead" if size else NOTHING_AHEAD
            ways.append(Stacked(family, name, stacked_policy(pair, plan, table, size)))
    if pair.below is None:
        lookup = tree_decoder(pair, FIXED, static_selector(chain(LOOKUP_DEPTH)), drafter=LookupDrafter())
        policy = Policy("lookup", FIXED.name, "", runner(lookup, tables[0]))
        ways.append(Stacked(f"chain of {LOOKUP_DEPTH}", "n-grams alone", policy))
    label = f"bench at T={setting.temperature:g}"
    plain, *runs = run_interleaved([plain_policy(pair, tables[0]), *(way.policy for way in ways)], jobs, label)
    alone = {way.family: of for way, of in zip(ways, runs, strict=True) if way.drafters == ALONE}
    rows = [_row(way, of, plain, alone) for way, of in zip(ways, runs, strict=True)]
    names = ("policy", "drafters", "block_efficiency", "levels_per_step", "x_plain", "over_alone", "priced_over_alone")
    print_table(label, [{name: str(row.get(name, "-")) for name in names} for row in rows])
    return {"repeated_four_grams": round(repeated_four_grams([run.tokens for run in plain]), 3), "rows": rows}


def stacked_policy(pair: Pair, plan: PolicyPlan, table: LatencyTable, ahead: int) -> Policy:
    """The plan above a stage that guesses `ahead` tokens; none for 0, where it only expands nodes of all depths."""
    selector = plan.build()
    assert isinstance(selector, Selector)
    selector, scheme = replace(selector, all_depths=True), ALL_SCHEMES[plan.scheme]
    below = pair if ahead else replace(pair, smaller=None)
    drafter = stacked_drafter(below, scheme, selector.limits, ahead, table=table)
    decoder = tree_decoder(pair, scheme, selector, drafter=drafter)
    return Policy(plan.family, plan.scheme, plan.text, runner(decoder, table))


def _plan(checkpoint: SelectorBundle, table: LatencyTable, setting: Setting, family: str) -> PolicyPlan:
    return finalists(checkpoint, table, [setting])[family, setting.scheme][0]


def _row(way: Stacked, runs: Sequence[Run], plain: Sequence[Run], alone: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    stats = DecodeStats.merged(run.stats for run in runs if run.stats is not None)
    row: dict[str, Any] = {
        "policy": way.family,
        "settings": way.policy.settings,
        "drafters": way.drafters,
        "texts": len(runs),
        "block_efficiency": round(stats.block_efficiency, 3),
        "nodes_per_step": round(stats.nodes_per_step, 2),
        "levels_per_step": round(stats.num_levels / stats.num_steps, 2),
        "controller_share": round(stats.controller_share, 4),
        "x_plain": _ratio(plain, runs, _seconds),
        "tokens_per_second": Speed.of(runs, plain).tokens_per_second,
        "texts_unlike_plain": num_unlike(runs, plain),
    }
    if way.family not in alone:  # n-grams have no price
        return row
    row["priced_x_plain"] = _ratio(plain, runs, _priced_ms)
    if way.drafters != ALONE:
        single = alone[way.family]
        row["over_alone"] = _ratio(single, runs, _seconds)
        row["priced_over_alone"] = _ratio(single, runs, _priced_ms)
    return row


def _ratio(before: Sequence[Run], after: Sequence[Run], cost: Callable[[Run], float]) -> list[float]:
    """Of tokens per cost, on the same texts, with its interval over them."""
    return [round(value, 3) for value in ratio_interval([*map(cost, before)], [*map(cost, after)])]


def _seconds(run: Run) -> float:
    return run.seconds


def _priced_ms(run: Run) -> float:
    return run.priced_ms
