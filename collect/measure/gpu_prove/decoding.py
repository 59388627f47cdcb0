"""Whole decoding on a device: learned trees against plain decoding, the same drafter's chains and best-first trees."""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from ....controller.checkpoint import Checkpoint
from ....controller.console import track
from ....controller.contract import COUPLED
from ....controller.policies.base import ShapePolicy
from ....controller.policies.chains import chain_limits
from ....controller.policies.eagle2 import eagle2
from ....controller.policies.learned import learned_selector
from ....controller.pricing.latency import LatencyTable
from ....controller.trees.limits import TreeLimits
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.decoder import Decoder
from ....runtime.pair import Pair
from ....runtime.sampling import Sampling
from ....runtime.stats import DecodeStats, StepRecord
from ...prompts.prompt import prompt_ids
from ...prompts.sources import PromptConfig, load_prompts
from ..bench.concurrency import Way, side_by_side, varied
from ..bench.measure import WARM_UP_TOKENS, Speed, tokens_per_second
from ..bench.policies import Job, Run

# Settings of each family; the fastest of a round is measured.
CHAINS = (1, 2, 3)
TREES = ((2, 4, 7), (4, 4, 15), (6, 4, 23))  # depth, width, budget
THETA_SCALES = (0.7, 1.0, 1.4)
NUM_PROMPTS = 24
LEAST_TEXTS = 8  # of a round
TOKENS_PER_TEXT = 3  # and text side by side, at least
NUM_WATCHED = 10  # steps


class Decoding(NamedTuple):
    """One way of decoding at one batch size."""

    batch: int
    way: str
    settings: str
    tokens_per_second: float
    speed_up: float
    speed_up_95: list[float]
    block_efficiency: float
    nodes_per_step: float
    step_ms: float
    controller_share: float


class Watched(NamedTuple):
    """What the device does in some steps, per step."""

    batch: int
    ms: float
    busy_share: float  # what the device computes, of the time
    kernels: float
    waits: float  # of the host for the device
    levels: float


def settings_of(checkpoint: Checkpoint, table: LatencyTable) -> dict[str, dict[str, ShapePolicy]]:
    """Policies to choose from, by family and by settings."""
    return {
        "chain": {f"{depth} tokens": eagle2(chain_limits(depth)) for depth in CHAINS},
        "best-first tree": {
            f"depth {depth}, {size} nodes": eagle2(TreeLimits.dynamic(depth, width, size))
            for depth, width, size in TREES
        },
        "learned": {
            f"theta x {scale}": learned_selector(checkpoint, table, theta_scale=scale) for scale in THETA_SCALES
        },
    }


def compare(
    pair: Pair, checkpoint: Checkpoint, table: LatencyTable, jobs: Sequence[Job], batch: int, rounds: int
) -> list[Decoding]:
    """Rounds of texts side by side, in turn, paired with plain decoding by round; one more round before chooses the
    settings of each family."""
    families = settings_of(checkpoint, table)
    decoders = {("plain", ""): plain_decoder(pair)}
    for family, policies in families.items():
        for settings, policy in policies.items():
            decoders[family, settings] = tree_decoder(pair, COUPLED, policy)
    ways: dict[tuple[str, str], Way] = {}
    for name, decoder in decoders.items():
        decoder.prepare(batch)
        ways[name] = partial(side_by_side, decoder)
        ways[name]([job._replace(max_tokens=WARM_UP_TOKENS) for job in round_of(jobs, batch, 0)], batch)
    tried = {name: way(round_of(jobs, batch, 0), batch) for name, way in ways.items()}
    chosen = [("plain", "")]
    for family, policies in families.items():
        speeds = {settings: tokens_per_second([tried[family, settings]]) for settings in policies}
        chosen.append((family, max(speeds, key=lambda settings: speeds[settings])))
    runs: dict[tuple[str, str], list[Run]] = {name: [] for name in chosen}
    generator = np.random.default_rng(0)
    for number in track(range(1, rounds + 1), f"decoding, {batch} side by side"):
        for index in generator.permutation(len(chosen)):
            runs[chosen[index]].append(ways[chosen[index]](round_of(jobs, batch, number), batch))
    return [_row(batch, name, of, runs["plain", ""]) for name, of in runs.items()]


def _row(batch: int, name: tuple[str, str], runs: Sequence[Run], plain: Sequence[Run]) -> Decoding:
    stats = DecodeStats.merged(run.stats for run in runs if run.stats is not None)
    speed = Speed.of(runs, plain)
    return Decoding(
        batch,
        *name,
        *speed,
        block_efficiency=round(stats.block_efficiency, 3),
        nodes_per_step=round(stats.nodes_per_step, 2),
        step_ms=round(stats.total_ms / len(stats.step_ms), 3),
        controller_share=round(stats.controller_share, 4),
    )


def make_jobs(pair: Pair, temperature: float, max_tokens: int) -> list[Job]:
    """Prompts of the reference pair, one text each."""
    prompts = load_prompts(PromptConfig("reference", "bench", NUM_PROMPTS))
    return [
        Job(prompt_ids(prompt, pair.tokenizer), max_tokens, Sampling(temperature, seed=number), prompt.domain)
        for number, prompt in enumerate(prompts)
    ]


def round_of(jobs: Sequence[Job], batch: int, number: int) -> list[Job]:
    """Texts of one round. Prompts are read one after another, so only long texts run side by side for long."""
    size = max(LEAST_TEXTS, batch)
    longer = [job._replace(max_tokens=max(job.max_tokens, TOKENS_PER_TEXT * batch)) for job in jobs]
    return [varied(longer[index % len(jobs)], index) for index in range(number * size, (number + 1) * size)]


def watch(decoder: Decoder, jobs: Sequence[Job], trace: Path | None = None) -> Watched:
    """Steps of as many texts as there are jobs; `trace` is where a Chrome trace of them goes."""
    requests = [job.request for job in jobs]
    steps = decoder.steps(requests, decoder.open_streams(requests))
    while len(next(steps).num_emitted) < len(jobs):
        pass  # prompts are read one after another
    records = [next(steps) for _ in range(NUM_WATCHED)]
    ms = sum(record.total_ms for record in records) / NUM_WATCHED
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * torch.cuda.is_available()]
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(NUM_WATCHED):
            next(steps)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    events: Any = profiler.events()
    on_device = [event for event in events if event.device_type.name == "CUDA"]
    busy_ms = sum(event.device_time for event in on_device) / 1e3 / NUM_WATCHED
    waits, levels = _waits(steps, NUM_WATCHED)
    return Watched(
        len(jobs),
        ms=round(ms, 3),
        busy_share=round(busy_ms / ms, 3),
        kernels=len(on_device) / NUM_WATCHED,
        waits=waits / NUM_WATCHED,
        levels=levels / NUM_WATCHED,
    )


def _waits(steps: Iterator[StepRecord], count: int) -> tuple[int, int]:
    """How often the host waited for the device in so many steps, and how many levels they drafted; without a device it
    never waits."""
    if not torch.cuda.is_available():
        return 0, sum(len(next(steps).level_widths) for _ in range(count))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            levels = sum(len(next(steps).level_widths) for _ in range(count))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchron" in str(each.message) for each in caught), levels


def as_rows(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Of named tuples, for a table or JSON."""
    return [{name.replace("_", " "): value for name, value in part._asdict().items()} for part in parts]
