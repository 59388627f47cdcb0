"""Measurements of `bench` that have a round of their own, each a report as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from ....controller.checkpoint import Checkpoint, ShapesCheckpoint
from ....controller.errors import InputError
from ....controller.plans.setting import Setting, temperature_key
from ....controller.policies.learned import LEARNED
from ....controller.pricing.latency import LatencyTable
from ....runtime.memory import carried_memory
from ....runtime.pair import Pair
from ...prompts.prompt import Prompt
from .concurrency import concurrency_rows, print_concurrency, served_ways
from .finalists import finalists
from .guests import inside_generate
from .jobs import bench_jobs, conditions
from .remembering import REMEMBERING, memory_report
from .report import known
from .settings import BenchConfig
from .shaped import shapes_report


def side_by_side(
    pair: Pair, checkpoint: Checkpoint, table: LatencyTable, prompts: list[Prompt], measure: BenchConfig
) -> dict[str, Any]:
    """Many texts at a time."""
    reports = {}
    for temperature in measure.temperatures:
        grids = finalists(checkpoint, table, [Setting(checkpoint.config.scheme, temperature)])
        learned = grids[LEARNED, checkpoint.config.scheme][0]
        ways = served_ways(pair, learned, table, carried_memory(pair, checkpoint))
        jobs = bench_jobs(pair, prompts, measure, temperature)
        rounds = [concurrency_rows(ways, jobs, number, measure.concurrency_rounds) for number in measure.concurrency]
        rows = [row for of_number in rounds for row in of_number]
        print_concurrency(temperature, rows, jobs[0].max_tokens)
        reports[temperature_key(temperature)] = [known(row) for row in rows]
    return {"command": "bench", **conditions(pair), "batch": list(measure.concurrency), "temperatures": reports}


def with_and_without_memory(
    pair: Pair, checkpoint: Checkpoint, table: LatencyTable, prompts: list[Prompt], measure: BenchConfig
) -> dict[str, Any]:
    """Policies with the selector's memory and without."""
    memory = carried_memory(pair, checkpoint)
    if memory is None:
        raise InputError(
            "measure.memory needs a selector that carries a memory, and an engine that can keep it; run `treewright "
            "fit-memory` for one"
        )
    reports = {}
    for temperature in measure.temperatures:
        setting = Setting(checkpoint.config.scheme, temperature)
        grids = finalists(checkpoint, table, [setting])
        plans = [grids[family, setting.scheme][0] for family in REMEMBERING]
        jobs = bench_jobs(pair, prompts, measure, temperature)
        reports[temperature_key(temperature)] = memory_report(pair, plans, table, memory, jobs)
    return {
        "command": "bench",
        **conditions(pair),
        "prompts": len(prompts),
        "memory": asdict(memory),
        "temperatures": reports,
    }


def learned_shapes(
    pair: Pair,
    checkpoint: Checkpoint,
    shapes: ShapesCheckpoint,
    table: LatencyTable,
    prompts: list[Prompt],
    measure: BenchConfig,
) -> dict[str, Any]:
    """Sampled trees whose shapes are chosen or fixed."""
    reports = {}
    for temperature in measure.temperatures:
        setting = Setting(checkpoint.config.scheme, temperature)
        walk = finalists(checkpoint, table, [setting])[LEARNED, setting.scheme][0]
        jobs = bench_jobs(pair, prompts, measure, temperature)
        reports[temperature_key(temperature)] = shapes_report(pair, walk, shapes, table, jobs)
    return {"command": "bench", **conditions(pair), "prompts": len(prompts), "temperatures": reports}


def guest_in_generate(
    pair: Pair, selector: Path, tuning: list[Prompt], prompts: list[Prompt], measure: BenchConfig
) -> dict[str, Any]:
    """The guest in transformers' `generate`."""
    reports = {}
    for temperature in measure.temperatures:
        jobs = [job._replace(max_tokens=measure.tune_tokens) for job in bench_jobs(pair, tuning, measure, temperature)]
        report = inside_generate(pair, selector, jobs, bench_jobs(pair, prompts, measure, temperature))
        reports[temperature_key(temperature)] = report
    return {
        "command": "bench",
        **conditions(pair),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "prompts": len(prompts),
        "temperatures": reports,
    }
