"""`treewright bench --engine vllm`: vLLM's own speculation, lengths and trees on one batch of mixed difficulty.

Each way has an engine of its own, one after another in a shuffled order, some rounds of them. On a CPU the counts are
the result; times of engines that run minutes apart are an indication.
"""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from ....controller.checkpoint import Checkpoint
from ....controller.console import print_json, print_table, track
from ....controller.errors import InputError
from ....controller.intervals import ratio_interval
from ....controller.plans.setting import temperature_key
from ....controller.ranges import require_at_least
from ....runtime.adapters.vllm.launch import VllmConfig
from ....runtime.engines.transformers.loading import load_tokenizer
from ....runtime.hosts import VLLM, require_host
from ....runtime.machine.processor import processor_name
from ....runtime.pair_config import REFERENCE, reference_folder, resolved
from ...prompts.prompt import prompt_ids
from ...prompts.sources import PromptConfig, load_prompts
from ...text import check_temperatures
from .engine import BatchRun, Job, open_engine, run_batch
from .profile import VllmSizes
from .profile import measure as measure_table
from .ways import Tables, Way, ways

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class VllmMeasure:
    """What is measured."""

    temperatures: tuple[float, ...] = (0.0, 0.6, 1.0)
    """Temperatures"""
    prompts: int = 24
    """Texts of the batch, of all domains of the source"""
    max_tokens: int = 48
    """Tokens per text; the end-of-text token does not end it"""
    tune_prompts: int = 8
    """Texts on which the length of vLLM's chains is chosen"""
    rounds: int = 2
    """Times that each way is measured"""
    seed: int = 10_000
    """Seed of the first text"""

    def __post_init__(self) -> None:
        check_temperatures("measure.temperatures", self.temperatures)
        for name in ("prompts", "max_tokens", "tune_prompts", "rounds"):
            require_at_least(f"measure.{name}", getattr(self, name), 1)


def bench(
    selector: str = REFERENCE,
    vllm: VllmConfig = VllmConfig(),
    source: str = PromptConfig.source,
    measure: VllmMeasure = VllmMeasure(),
    sizes: VllmSizes = VllmSizes(),
) -> None:
    """Compare vLLM alone, its own speculation, lengths of its chains and trees on one batch of texts.

    Args:
        selector: Checkpoint of the learned selector, a folder or hub id
        vllm: Which models vLLM decodes, and what drafts for them
        source: Prompts: splits `tune` and `bench` of a .jsonl file, a `datasets` name, or `reference`
        measure: What is measured
        sizes: What the latency tables span that learned ways go by
    """
    if vllm.drafter is None:
        raise InputError("vllm.drafter is none, but most of what is compared drafts; give one")
    require_host(VLLM, "--engine")
    checkpoint = Checkpoint.from_pretrained(reference_folder() / "selector" if selector == REFERENCE else selector)
    jobs = {split: _jobs(vllm, source, split, count, measure) for split, count in _splits(measure).items()}
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(Path(folder) / "whole.json", Path(folder) / "chain.json")
        for method, file in (("whole", tables.whole), ("draft_model", tables.chain)):
            measure_table(replace(vllm, method=method), sizes).save(file)
        reports = {}
        for temperature in measure.temperatures:
            found = ways(vllm, checkpoint, selector, tables, temperature)
            at = {split: [job._replace(temperature=temperature) for job in of] for split, of in jobs.items()}
            chosen = _tuned(found, at["tune"])
            runs = _run(chosen, at["bench"], measure.rounds, f"bench at T={temperature:g}")
            rows = [_row(way, runs[way.name], runs) for way in chosen]
            print_table(f"Inside vLLM, {len(at['bench'])} texts at T = {temperature:g}", rows)
            reports[temperature_key(temperature)] = rows
    print_json({"command": "bench", "engine": "vllm", **_conditions(vllm, measure), "temperatures": reports})


def _splits(measure: VllmMeasure) -> dict[str, int]:
    return {"tune": measure.tune_prompts, "bench": measure.prompts}


def _jobs(vllm: VllmConfig, source: str, split: str, count: int, measure: VllmMeasure) -> list[Job]:
    tokenizer = load_tokenizer(resolved(vllm.target, "target"))
    return [
        Job(prompt_ids(prompt, tokenizer), measure.max_tokens, 0.0, measure.seed + number, prompt.domain)
        for number, prompt in enumerate(load_prompts(PromptConfig(source, split, count)))
    ]


def _tuned(found: list[Way], jobs: list[Job]) -> list[Way]:
    """The ways with the fastest of each that is tuned in place of all."""
    tried = [way for way in found if way.tuned is not None]
    runs = _run(tried, jobs, 1, "tune the length of chains")
    best = min(tried, key=lambda way: runs[way.name][0].seconds)
    return [way for way in found if way.tuned is None or way is best]


def _run(chosen: list[Way], jobs: list[Job], rounds: int, label: str) -> dict[str, list[BatchRun]]:
    order = Random(0)
    runs: dict[str, list[BatchRun]] = {way.name: [] for way in chosen}
    turns = [way for _ in range(rounds) for way in order.sample(chosen, len(chosen))]
    for way in track(turns, label):
        way.prepare()
        with open_engine(way.options) as llm:
            run_batch(llm, [job._replace(max_tokens=WARM_UP_TOKENS, seed=number) for number, job in enumerate(jobs)])
            runs[way.name].append(run_batch(llm, jobs))
    return runs


def _row(way: Way, of_way: list[BatchRun], runs: dict[str, list[BatchRun]]) -> dict[str, Any]:
    """The seed's metrics: tokens per second, drafted and accepted tokens per step, acceptance rate, latencies."""
    first, plain = of_way[0], runs["plain"]
    tokens = sum(map(len, first.texts))
    same = runs["plain, treewright's sampler"][0].texts if way.same_text else None
    latencies = np.percentile([1e3 * each for run in of_way for each in run.latencies], (50, 95, 99))
    steps = np.percentile([each for run in of_way for each in run.step_ms], (50, 95))
    speed_up = ratio_interval([run.seconds for run in plain], [run.seconds for run in of_way])
    return {
        "way": way.name,
        "tokens_per_step": round(tokens / first.num_steps, 3),
        "drafted_per_step": round(first.num_drafted / first.num_steps, 2),
        "accepted_per_step": round(first.num_accepted / first.num_steps, 3),
        "acceptance_rate": round(first.num_accepted / first.num_drafted, 3) if first.num_drafted else None,
        "tokens_per_s": round(tokens * len(of_way) / sum(run.seconds for run in of_way), 1),
        "times_plain": round(speed_up.value, 3),
        "text_p50_p95_p99_ms": [round(float(each)) for each in latencies],
        "step_p50_p95_ms": [round(float(each), 1) for each in steps],
        "same_texts": None if same is None else sum(a == b for a, b in zip(first.texts, same, strict=True)),
    }


def _conditions(vllm: VllmConfig, measure: VllmMeasure) -> dict[str, Any]:
    from vllm import __version__

    return {
        "pair": f"{Path(vllm.target).name}+{Path(str(vllm.drafter)).name}",
        "vllm": __version__,
        "torch": torch.__version__,
        "dtype": vllm.dtype,
        "processor": processor_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "budget": vllm.budget,
        "prompts": measure.prompts,
        "max_tokens": measure.max_tokens,
        "batch": vllm.max_num_seqs,
        "rounds": measure.rounds,
    }
