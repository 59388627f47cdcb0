"""The `bench` command: tune every policy on one set of prompts, measure them all on another."""

from functools import partial
from pathlib import Path

from ....controller.console import print_json
from ....controller.contract import RANKED_SCHEMES
from ....controller.errors import InputError
from ....controller.plans.sampled_grids import verifier_grids
from ....controller.plans.setting import Setting, temperature_key
from ....controller.policies.learned import LEARNED
from ....runtime.memory import carried_memory
from ....runtime.pair import PairConfig, load_pair
from ....runtime.sampling import Sampling
from ....runtime.selectors import read_selector, read_shapes
from ...prompts.prompt import prompt_request
from ...prompts.sources import PromptConfig, load_prompts
from ..profile import ProfileConfig
from ..table_cache import new_table
from .accounting import shares_sentence, step_shares
from .finalists import finalists
from .jobs import bench_jobs, conditions
from .measure import WARM_UP_TOKENS, repeated_four_grams, run_interleaved, tuned
from .peers import peer_policies
from .policies import as_trained, guarded, plain_policy, planned_policy
from .report import fit_sentence, known, over_others, print_policies, summarise, table_fit
from .rounds import guest_in_generate, learned_shapes, side_by_side, with_and_without_memory
from .settings import BenchConfig
from .stacking import stack_report
from .verification_cost import print_costs, verification_costs

# Texts whose steps are accounted for.
NUM_ACCOUNTED = 8


def bench(
    selector: Path,
    pair: PairConfig = PairConfig(),
    source: str = PromptConfig.source,
    measure: BenchConfig = BenchConfig(),
    profile: ProfileConfig = ProfileConfig(),
) -> None:
    """Compare plain decoding, every baseline policy and the learned trees in one interleaved run.

    Args:
        selector: Checkpoint folder of the learned selector
        pair: The two models
        source: Prompts: splits `tune` and `bench` of a .jsonl file, a `datasets` name, or `reference`
        measure: What is measured
        profile: What the latency table spans that the policies go by
    """
    untuned = measure.concurrency or measure.memory or measure.shapes or measure.ahead
    num_tuning = 0 if untuned else max(measure.tune_prompts, measure.assisted_prompts)
    tuning = load_prompts(PromptConfig(source, "tune", num_tuning)) if num_tuning else []
    tune = tuning[: measure.tune_prompts]
    held_out = load_prompts(PromptConfig(source, "bench", measure.bench_prompts))
    if {prompt.document for prompt in tuning} & {prompt.document for prompt in held_out}:
        raise InputError(
            f"{source}: some prompts, or prompts of one document, are in both splits, tune and bench; give every row a "
            "'split' of its own (lines of a .txt file and rows without one are in both)"
        )
    if measure.concurrency and max(measure.concurrency) > max(profile.batches):
        raise InputError(
            f"measure.concurrency is of numbers up to the largest batch profiled, {max(profile.batches)}; got "
            f"{list(measure.concurrency)}, so add them to profile.batches"
        )
    models = load_pair(pair, heads=bool(measure.ahead))
    checkpoint = read_selector(selector, tokenizer_sha256=models.tokenizer_sha256)
    for prompts, most_tokens in ((tuning, max(measure.tune_tokens, WARM_UP_TOKENS)), (held_out, measure.most_tokens)):
        for prompt in prompts:  # all are held against the context before hours of measuring
            prompt_request(prompt, models, most_tokens, Sampling())
    shapes = None
    if measure.shapes is not None:
        shapes = read_shapes(measure.shapes, tokenizer_sha256=models.tokenizer_sha256)
    # Measured anew: prices differ from process to process, by more than policies do.
    table = new_table(models, profile)
    if measure.concurrency:
        print_json(side_by_side(models, checkpoint, table, held_out, measure))
        return
    if measure.inside_generate:
        print_json(guest_in_generate(models, selector, tuning[: measure.assisted_prompts], held_out, measure))
        return
    if measure.ahead:
        tables = [table] if models.below is None else [table, new_table(models.below, profile)]
        print_json(stack_report(models, tables, checkpoint, held_out, measure))
        return
    if measure.memory:
        print_json(with_and_without_memory(models, checkpoint, table, held_out, measure))
        return
    if shapes is not None:
        print_json(learned_shapes(models, checkpoint, shapes, table, held_out, measure))
        return
    reports = {}
    for temperature in measure.temperatures:
        schemes = RANKED_SCHEMES if measure.fixed_scheme and temperature > 0 else (checkpoint.config.scheme,)
        grids = finalists(checkpoint, table, [Setting(scheme, temperature) for scheme in schemes])
        if measure.verifiers and temperature > 0:
            grids |= verifier_grids()
        memory = carried_memory(models, checkpoint)
        make = partial(planned_policy, models, table=table, memory=memory)
        plans = [grid[0] for grid in grids.values()]
        jobs = [
            job._replace(max_tokens=measure.tune_tokens) for job in bench_jobs(models, tuning, measure, temperature)
        ]
        if tune:
            plans = tuned([*grids.values()], make, jobs[: len(tune)], f"tune at T={temperature}")
        peers = peer_policies(models, jobs[: measure.assisted_prompts], f"tune peers at T={temperature}")
        plan_of_learned = next(plan for plan in plans if plan.family == LEARNED)
        plans += [as_trained(plan_of_learned), guarded(plan_of_learned, table)]
        jobs = bench_jobs(models, held_out, measure, temperature)
        policies = [plain_policy(models, table), *peers, *map(make, plans)]
        runs = run_interleaved(policies, jobs, f"bench at T={temperature}")
        rows = [summarise(policy, jobs, of_policy, runs[0]) for policy, of_policy in zip(policies, runs, strict=True)]
        repeated = repeated_four_grams([run.tokens for run in runs[0]])
        print_policies(temperature, rows, jobs, repeated, is_tuned=bool(tune) or bool(checkpoint.tuned.ranked))
        shares = step_shares(models, plan_of_learned, jobs[:NUM_ACCOUNTED], memory=memory)
        print(shares_sentence(shares))
        learned = over_others(LEARNED, policies, runs)
        print(f"learned over {learned.fastest_other}: {learned.ratio:.3f} x, 95 % interval {learned.ratio_95}")
        fit = table_fit(runs)
        print(fit_sentence(fit))
        reports[temperature_key(temperature)] = {
            "repeated_four_grams": round(repeated, 3),
            "policies": [known(row) for row in rows],
            "learned_over_fastest_other": learned._asdict(),
            "learned_step_shares": shares,
            "table_fit": fit and {name: round(ratio, 3) for name, ratio in fit._asdict().items()} | {"fits": fit.fit},
        }
    report = {"command": "bench", **conditions(models), "prompts": len(held_out), "temperatures": reports}
    if measure.verifiers:
        costs = verification_costs(models)
        print_costs(costs)
        report["verification"] = [cost.as_json() for cost in costs]
    print_json(report)
