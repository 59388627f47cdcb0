"""What a memory of the drafter's errors is worth: the same policies with it and without, in one interleaved run."""

from collections.abc import Sequence
from typing import Any

from ....controller.console import print_table
from ....controller.intervals import ratio_interval
from ....controller.memory import MemoryConfig
from ....controller.plans.plan import PolicyPlan
from ....controller.pricing.latency import LatencyTable
from ....runtime.pair import Pair
from ....runtime.stats import DecodeStats
from .accounting import step_shares
from .measure import Speed, num_unlike, repeated_four_grams, run_interleaved
from .policies import Job, Run, plain_policy, planned_policy

# Policies that go by the drafter's confidence, by that and the text's own n-grams, and by the learned score.
REMEMBERING = ("EAGLE-2", "choice, fused", "learned")
# Texts whose steps are accounted for.
NUM_ACCOUNTED = 6


def memory_report(
    pair: Pair, plans: Sequence[PolicyPlan], table: LatencyTable, memory: MemoryConfig, jobs: Sequence[Job]
) -> dict[str, Any]:
    """Rows per policy and domain, as JSON; the last plan's steps are accounted for. Printed as a table, too."""
    policies = [plain_policy(pair, table)]
    policies += [planned_policy(pair, plan, table, each) for plan in plans for each in (None, memory)]
    label = f"bench at T={jobs[0].sampling.temperature:g}"
    plain, *runs = run_interleaved(policies, jobs, label)
    rows = []
    for number, plan in enumerate(plans):
        for domain in ("all", *dict.fromkeys(job.domain for job in jobs)):
            chosen = [index for index, job in enumerate(jobs) if domain in ("all", job.domain)]
            off, on, alone = ([of[index] for index in chosen] for of in (*runs[2 * number : 2 * number + 2], plain))
            rows.append({"policy": plan.family, "settings": plan.text, "domain": domain, **compared(off, on, alone)})
    names = ("policy", "domain", "texts", "block_efficiency", "steps_saved_95", "speed_up", "texts_unlike_plain")
    print_table(label, [{name: str(row[name]) for name in names} for row in rows])
    settings = {"off": None, "on": memory}
    shares = {name: step_shares(pair, plans[-1], jobs[:NUM_ACCOUNTED], memory=each) for name, each in settings.items()}
    repeated = round(repeated_four_grams([run.tokens for run in plain]), 3)
    return {"repeated_four_grams": repeated, "rows": rows, "learned_step_shares": shares}


def compared(off: Sequence[Run], on: Sequence[Run], plain: Sequence[Run]) -> dict[str, Any]:
    """A policy without and with the memory, on the same jobs. Ratios are of sums, with intervals over jobs."""
    stats = [DecodeStats.merged(run.stats for run in runs if run.stats is not None) for runs in (off, on)]
    steps = [[run.stats.num_steps for run in runs if run.stats is not None] for runs in (off, on)]
    saved = ratio_interval(*steps)
    return {
        "texts": len(plain),
        "block_efficiency": [round(each.block_efficiency, 3) for each in stats],
        "nodes_per_step": [round(each.nodes_per_step, 2) for each in stats],
        "steps_saved": round(saved.value, 3),  # block efficiency with the memory over that without
        "steps_saved_95": [round(saved.low, 3), round(saved.high, 3)],
        "speed_up": [Speed.of(runs, plain).speed_up for runs in (off, on)],
        "with_over_without": Speed.of(on, off)._asdict(),
        "texts_unlike_plain": num_unlike([*off, *on], [*plain, *plain]),
    }
