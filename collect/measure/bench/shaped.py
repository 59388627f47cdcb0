"""Learned shapes of sampled trees beside the best fixed tree of each verifier, in one interleaved run."""

from collections.abc import Sequence
from typing import Any

from ....controller.checkpoint import ShapesCheckpoint
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.sampled_grids import fixed_plan, shaped_plans
from ....controller.plans.setting import temperature_title
from ....controller.pricing.latency import LatencyTable
from ....runtime.pair import Pair
from .measure import Speed, repeated_four_grams, run_interleaved
from .policies import Job, plain_policy, planned_policy
from .report import known, print_policies, summarise


def shapes_report(
    pair: Pair, walk: PolicyPlan, checkpoint: ShapesCheckpoint, table: LatencyTable, jobs: Sequence[Job]
) -> dict[str, Any]:
    """Rows per policy as JSON: plain decoding, the learned `walk`, and for every verifier that the checkpoint has tuned
    a fixed tree for that tree and the learned choice; and the ratio of the latter two. Printed as a table, too."""
    sampling = jobs[0].sampling
    plans, compared = [walk], []
    for (learned,) in shaped_plans(checkpoint, table).values():
        fixed = fixed_plan(checkpoint, learned.verifier, sampling.temperature, sampling.top_p)
        if fixed is not None:
            plans += [fixed, learned]
            compared.append(learned.verifier)
    policies = [plain_policy(pair, table), *(planned_policy(pair, plan, table) for plan in plans)]
    title = temperature_title(sampling.temperature)
    runs = run_interleaved(policies, jobs, f"bench at {title}")
    rows = [summarise(policy, jobs, of_policy, runs[0]) for policy, of_policy in zip(policies, runs, strict=True)]
    repeated = repeated_four_grams([run.tokens for run in runs[0]])
    print_policies(sampling.temperature, rows, jobs, repeated, is_tuned=True)
    over_fixed = {
        verifier: Speed.of(runs[3 + 2 * number], runs[2 + 2 * number])._asdict()
        for number, verifier in enumerate(compared)
    }
    for verifier, speed in over_fixed.items():
        print(f"{verifier}: learned shapes over the fixed tree {speed['speed_up']:.3f} x, {speed['speed_up_95']}")
    return {
        "top_p": sampling.top_p,
        "repeated_four_grams": round(repeated, 3),
        "policies": [known(row) for row in rows],
        "learned_over_fixed": over_fixed,
    }
