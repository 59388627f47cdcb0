"""What bench tunes and reports, on policies whose speeds are known."""

import json
from dataclasses import replace
from pathlib import Path

import plans
import pytest
import tiny
from transformers import GenerationConfig
from treewright.collect.measure.bench.command import bench
from treewright.collect.measure.bench.finalists import finalists
from treewright.collect.measure.bench.measure import tuned
from treewright.collect.measure.bench.policies import Job, Policy, Run, planned_policy
from treewright.collect.measure.bench.remembering import memory_report
from treewright.collect.measure.bench.report import (
    fit_sentence,
    known,
    over_others,
    summarise,
    table_fit,
    worst_decile,
)
from treewright.collect.measure.bench.settings import BenchConfig
from treewright.collect.measure.bench.stacking import ALONE, NOTHING_AHEAD, stack_rows
from treewright.collect.measure.bench.transformers_loops import (
    GRID as ASSISTED_GRID,
)
from treewright.collect.measure.bench.transformers_loops import (
    Assistance,
    assisted_policy,
    generate_policy,
    tuned_assisted,
)
from treewright.controller.errors import InputError
from treewright.controller.memory import MemoryConfig
from treewright.controller.plans.grids import NUM_TRIALS
from treewright.controller.plans.sampled_grids import verifier_grids
from treewright.controller.plans.setting import Setting
from treewright.controller.plans.tuned import TunedSettings
from treewright.runtime.pair import PairConfig
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.stats import DecodeStats
from treewright.runtime.table_fit import PartRatios

GRID = [plans.toy(price=price) for price in (3.0, 1.0, 2.0)]
JOBS = [Job([1], 10, Sampling(), domain) for domain in ("code", "code", "prose")]


def toy_policy(plan):
    """Writes its tokens at the plan's price; the clock says the opposite."""
    price = plan.settings["price"]
    run = lambda job: Run([0] * job.max_tokens, 1 / price, None, price * job.max_tokens)  # noqa: E731
    return Policy(plan.family, plan.scheme, plan.text, run)


def test_each_grid_is_tuned_to_its_least_price():
    assert tuned([GRID, GRID[2:]], toy_policy, JOBS, "tune") == [GRID[1], GRID[2]]


def with_tuned(ranked):
    selector, tuned = plans.selector(), TunedSettings.parse({"coupled": ranked})
    return replace(selector, baselines=replace(selector.baselines, tuned=tuned))


def test_the_two_settings_that_replay_ranked_first_go_into_the_live_round_in_the_grid_or_not():
    best = [{"depth": 7, "budget": 5}, {"depth": 3, "budget": 8}, {"depth": 1, "budget": 3}]
    checkpoint = with_tuned({"0.6": {"EAGLE-2": best}})
    chosen = finalists(checkpoint, plans.TABLE, [Setting("coupled", 0.6), Setting("fixed", 0.6)])
    assert [plan.settings for plan in chosen["EAGLE-2", "coupled"]] == best[:2]
    limits = chosen["EAGLE-2", "coupled"][0].build().limits
    assert (limits.max_depth, limits.budget) == (plans.LIMITS.max_depth, 5)
    for untuned in (("EAGLE-2", "fixed"), ("static", "coupled")):
        assert len(chosen[untuned]) == NUM_TRIALS
    assert len(finalists(checkpoint, plans.TABLE, [Setting("coupled", 1.0)])["EAGLE-2", "coupled"]) == NUM_TRIALS


def test_tuned_settings_of_another_policy_are_refused():
    checkpoint = with_tuned({"1": {"EAGLE-2": [{"depth": 3, "beam": 8}]}})
    with pytest.raises(InputError, match=r"holds settings .* for 'EAGLE-2', this build takes such as .*; retrain it"):
        finalists(checkpoint, plans.TABLE, [Setting("coupled", 1.0)])


def test_a_row_holds_the_ratios_to_plain_by_domain_and_of_the_worst_requests():
    plain = [Run([0] * 10, seconds, None) for seconds in (1.0, 1.0, 2.0)]
    runs = [Run([0] * 10, seconds, None) for seconds in (0.5, 1.0, 4.0)]
    row = summarise(toy_policy(GRID[0]), JOBS, runs, plain)
    assert row.speed_up == round(4.0 / 5.5, 3)
    assert row.speed_up_by_domain == {"code": 1.333, "prose": 0.5}
    assert row.speed_up_worst_decile == 0.5


def test_only_policies_that_promise_the_plain_text_are_held_against_it():
    stats = DecodeStats(num_steps=5, num_tokens=10, step_ms=[1.0])
    plain = [Run([0] * 10, 1.0, stats)] * 3
    other = [Run([1] * 10, 1.0, stats)] * 3
    walk, ratio = (Policy("toy", "iid-paths", "", lambda job: other[0], same_text=same) for same in (True, False))
    assert summarise(walk, JOBS, other, plain).texts_unlike_plain == 3
    assert "texts_unlike_plain" not in known(summarise(ratio, JOBS, other, plain))


@pytest.mark.parametrize("key", verifier_grids(), ids="/".join)
def test_every_verifier_runs_by_its_plan(key):
    pair, job = tiny.pair(), Job([3, 1, 4], 12, Sampling(0.8, seed=1), "code")
    plan = verifier_grids()[key][0]
    policy = planned_policy(pair, plan, plans.TABLE)
    run = policy.run(job)
    assert (policy.family, policy.scheme) == key
    assert len(run.tokens) == 12 and run.priced_ms > 0
    assert run.stats is not None and run.stats.num_kept > 0
    if policy.same_text:
        (stream,), _ = tiny.decoder(pair.target).generate([Request(job.prompt_ids, 12, job.sampling)])
        assert run.tokens == stream.token_ids
    assert policy.same_text == (key[0] == "walk")


def test_policies_with_a_memory_and_without_are_compared_on_the_same_texts(capsys):
    pair, plan = tiny.pair(0.08), plans.grids()["EAGLE-2", "coupled"][0]
    jobs = [Job([3, 1, 4, seed], 12, Sampling(0.8, seed=seed), "code" if seed else "prose") for seed in range(3)]
    report = memory_report(pair, [plan], plans.TABLE, MemoryConfig(window=24, beta=6.0, mass=0.2), jobs)
    assert [(row["domain"], row["texts"]) for row in report["rows"]] == [("all", 3), ("prose", 1), ("code", 2)]
    assert {row["texts_unlike_plain"] for row in report["rows"]} == {0}
    off, on = report["rows"][0]["block_efficiency"]
    assert report["rows"][0]["steps_saved"] == pytest.approx(on / off, abs=2e-3)
    assert off != on
    assert report["learned_step_shares"]["off"].keys() == report["learned_step_shares"]["on"].keys()


def test_stacks_and_each_drafter_alone_are_compared_on_the_same_texts(capsys):
    pair = replace(tiny.pair(0.03), smaller=tiny.llama(noise=0.05))
    jobs = [Job([3, 1, 4, 1, 5, seed], 8, Sampling(0.8, seed=seed), "code") for seed in range(2)]
    of_ngrams = stack_rows(replace(pair, smaller=None), [plans.TABLE], plans.selector(), (3,), jobs)["rows"]
    of_models = stack_rows(pair, [plans.TABLE] * 2, plans.selector(), (2, 3), jobs)["rows"]
    families = ("choice, fused", "learned")
    own = (ALONE, NOTHING_AHEAD, "3 ahead")
    assert [(row["policy"], row["drafters"]) for row in of_ngrams] == [
        *((family, name) for family in families for name in own),
        ("chain of 4", "n-grams alone"),
    ]
    assert [row["drafters"] for row in of_models[:5]] == [
        ALONE, f"{ALONE}, the smaller", NOTHING_AHEAD, "2 ahead", "3 ahead",
    ]  # fmt: skip
    for row in (*of_ngrams, *of_models):
        assert row["texts"] == 2 and row["texts_unlike_plain"] == 0
        assert row["block_efficiency"] > 1 or row["drafters"] == "n-grams alone"
        assert ("priced_over_alone" in row) == (row["drafters"] not in (ALONE, "n-grams alone"))


def test_bench_refuses_verifiers_that_nothing_has_tuned():
    with pytest.raises(InputError, match="use at least 1"):
        bench(Path("reference"), measure=BenchConfig(verifiers=True, tune_prompts=0))


@pytest.mark.parametrize("split", ["tune", "bench"])
def test_a_prompt_beyond_the_context_is_refused_by_name_before_anything_is_measured(split, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = [
        {"prompt": "a", "split": "tune"},
        {"prompt": "b", "split": "bench"},
        {"prompt": "c\n" * 2000, "split": split},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"p.jsonl line 3: the prompt has \d+ tokens"):
        bench(Path("reference"), PairConfig(threads=1), str(tmp_path / "p.jsonl"), BenchConfig(tune_prompts=2))
    assert not (tmp_path / "treewright").exists()


def test_the_tables_fit_is_the_median_over_the_steps_of_all_policies():
    runs = [
        [Run([0], 1.0, None, 1.0, (PartRatios(1.0, 1.1), PartRatios(1.4, 1.2))), Run([0], 1.0, None)],
        [Run([0], 1.0, None, 1.0, (PartRatios(1.6, 0.9),))],
    ]
    assert table_fit(runs) == PartRatios(1.4, 1.1)
    assert table_fit([[Run([0], 1.0, None)]]) is None


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (PartRatios(1.1, 1.2), "The latency table fits: drafter levels take 1.10 times"),
        (PartRatios(1.4, 1.0), "Warning: the machine changed since its prices were measured: drafter levels"),
        (None, "No step shows"),
    ],
)
def test_bench_says_whether_its_prices_agree_with_its_clock(fit, said):
    assert fit_sentence(fit).startswith(said)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.5], 0.5), ([2.0, 0.5, 1.0], 0.5), ([float(n) for n in range(20, 0, -1)], 1.5), ([1.0] * 10 + [0.25], 0.625)],
)
def test_the_worst_decile_is_the_mean_of_the_lowest_tenth(ratios, expected):
    assert worst_decile(ratios) == expected


def test_learned_is_held_against_the_policy_that_was_fastest_here():
    names = ("plain", "static", "chain", "learned", "learned, guarded")
    policies = [Policy(name, "coupled", "", lambda job: Run([], 0.0, None)) for name in names]
    runs = [[Run([0] * 6, seconds, None)] * 2 for seconds in (4.0, 2.0, 3.0, 1.0, 0.5)]
    assert over_others("learned", policies, runs)._asdict() == {
        "fastest_other": "static (coupled)",
        "ratio": 2.0,
        "ratio_95": [2.0, 2.0],
    }


ODD = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "num_beams": 3,
    "suppress_tokens": [1, 2, 3],
    "bad_words_ids": [[7]],
    "max_length": 20,
    "min_p": 0.3,
    "num_return_sequences": 2,
    "penalty_alpha": 0.6,
    "forced_eos_token_id": 3,
    "eos_token_id": [3, 4, 5],
    "cache_implementation": "static",
}


@pytest.mark.parametrize("assisted", [False, True])
@pytest.mark.parametrize("name", [None, *ODD])
def test_transformers_own_loops_generate_the_targets_text_whatever_its_folder_asks_for(name, assisted):
    pair, job = tiny.pair(), Job([1, 2, 3, 4], 16, Sampling(0.0), "code")
    own = GenerationConfig()
    if name is not None:
        setattr(own, name, ODD[name])  # as a file may hold it; the constructor would check
    target, drafter = tiny.network(pair.target), tiny.network(pair.drafter)
    target.generation_config = drafter.generation_config = own
    (plain,), _ = tiny.decoder(pair.target).generate([Request(job.prompt_ids, 16, job.sampling)])
    policy = assisted_policy(pair, Assistance(4)) if assisted else generate_policy(pair)
    assert policy.run(job).tokens == plain.token_ids
    assert target.generation_config is drafter.generation_config is own


def test_assisted_generation_is_tuned_over_its_own_options_by_the_clock():
    pair, job = tiny.pair(), Job([1, 2, 3], 6, Sampling(0.0), "code")
    (untuned,) = tuned_assisted(pair, [], "tune")
    (chosen,) = tuned_assisted(pair, [job], "tune")
    assert untuned.settings == ASSISTED_GRID[0].text == "tokens=20 threshold=0.4 constant"
    assert chosen.settings in {options.text for options in ASSISTED_GRID}
    assert chosen.family == untuned.family == "transformers assisted"
