"""Tokens per second of llama.cpp's own loops and of ours, in one interleaved run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ....controller.checkpoint import Checkpoint
from ....controller.plans.grids import policy_families
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.setting import Setting
from ....controller.policies.learned import LEARNED
from ....controller.pricing.latency import LatencyTable
from ....runtime.engines.llamacpp.model import LlamaCppModel
from ....runtime.pair import Pair
from ....runtime.pair_config import REFERENCE
from ....runtime.selectors import read_selector
from ..bench.accounting import step_shares
from ..bench.measure import Speed, repeated_four_grams, run_interleaved, tuned
from ..bench.peers import peer_policies
from ..bench.policies import Job, guarded, plain_policy, planned_policy
from ..bench.report import known, over_others, summarise, table_fit

CHAINS = (1, 2, 3, 4)
TUNED = ("EAGLE-2", "OPT-Tree", LEARNED)
NUM_FINALISTS = 2
SHIPPED = f"{LEARNED}, shipped checkpoint"


def plans_of(
    pair: Pair, checkpoint: Checkpoint, table: LatencyTable, temperature: float, jobs: Sequence[Job]
) -> list[PolicyPlan]:
    """Chains of every length; the others at the better of the two settings that replay found best, tried on `jobs`;
    the learned one also behind the guard, and as the reference pair's checkpoint has it, unchanged."""
    setting = Setting(checkpoint.config.scheme, temperature)
    families = {family.name: family for family in policy_families(checkpoint, table, setting)}
    plans = [replace(families["chain"].plan({"depth": depth}), family=f"chain {depth}") for depth in CHAINS]
    grids = []
    for name in TUNED:
        ranked = checkpoint.tuned.at(setting, name)[:NUM_FINALISTS] or families[name].grid
        grids.append([families[name].plan(settings) for settings in ranked])
    plans += tuned(grids, lambda plan: planned_policy(pair, plan, table), jobs, f"tune at T={temperature:g}")
    shipped = read_selector(REFERENCE, tokenizer_sha256=pair.tokenizer_sha256)
    (family,) = (each for each in policy_families(shipped, table, setting) if each.name == LEARNED)
    as_shipped = family.plan(shipped.tuned.at(setting, LEARNED)[0])
    return [*plans, guarded(plans[-1], table), replace(as_shipped, family=SHIPPED)]


def speeds(
    pair: Pair,
    checkpoint: Checkpoint,
    table: LatencyTable,
    temperature: float,
    tuning: Sequence[Job],
    jobs: Sequence[Job],
) -> dict[str, Any]:
    """The rows of a benchmark at one temperature, and what they say of the learned trees."""
    plans = plans_of(pair, checkpoint, table, temperature, tuning)
    peers = peer_policies(pair, tuning, f"tune llama.cpp's own at T={temperature:g}")
    policies = [plain_policy(pair, table), *peers, *(planned_policy(pair, plan, table) for plan in plans)]
    runs = run_interleaved(policies, jobs, f"{pair.name} at T={temperature:g}")
    rows = [summarise(policy, jobs, of_policy, runs[0]) for policy, of_policy in zip(policies, runs, strict=True)]
    by_name = {policy.family: of_policy for policy, of_policy in zip(policies, runs, strict=True)}
    fit = table_fit(runs)
    return {
        "repeated_four_grams": round(repeated_four_grams([run.tokens for run in runs[0]]), 3),
        "policies": [known(row) for row in rows],
        "learned_over": {
            name: Speed.of(by_name[LEARNED], of_policy)._asdict()
            for name, of_policy in by_name.items()
            if not name.startswith(LEARNED)
        },
        "learned_over_fastest_other": over_others(LEARNED, policies, runs)._asdict(),
        "learned_step_shares": engine_shares(pair, next(plan for plan in plans if plan.family == LEARNED), jobs),
        "table_fit": fit and {name: round(ratio, 3) for name, ratio in fit._asdict().items()},
    }


def engine_shares(pair: Pair, plan: PolicyPlan, jobs: Sequence[Job]) -> dict[str, float]:
    """`step_shares`, with what of the forwards is not llama.cpp's own: batches filled, logits wrapped."""
    contexts = [model.context for model in (pair.target, pair.drafter) if isinstance(model, LlamaCppModel)]
    return step_shares(pair, plan, jobs, lambda: sum(context.decode_ms for context in contexts))
