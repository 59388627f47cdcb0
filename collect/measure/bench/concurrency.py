"""Many texts side by side: learned trees against the same loop without them, and against transformers' own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np

from ....controller.console import print_table, track
from ....controller.contract import ALL_SCHEMES
from ....controller.memory import MemoryConfig
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.setting import temperature_title
from ....controller.pricing.latency import LatencyTable
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.decoder import Decoder
from ....runtime.pair import Pair
from ....runtime.stats import DecodeStats
from .measure import Speed, num_unlike
from .policies import Job, Run, guarded
from .report import interval_text, or_dash, same_text
from .transformers_loops import generated, runs_in_transformers


@dataclass(frozen=True)
class ConcurrencyRow:
    """One way of serving at one concurrency; what is None is not known of a loop that is not ours."""

    concurrency: int
    way: str
    rounds: int
    tokens_per_second: float
    speed_up: float
    speed_up_95: list[float]
    block_efficiency: float | None = None
    nodes_per_step: float | None = None
    texts_unlike_plain: int | None = None


# Generates the texts of a round, so many of them at a time.
Way = Callable[[Sequence[Job], int], Run]


def served_ways(
    pair: Pair, plan: PolicyPlan, table: LatencyTable, memory: MemoryConfig | None = None
) -> dict[str, Way]:
    """Plain decoding first; the learned plan with and without its guard, which learns from round to round."""
    ways: dict[str, Way] = {"plain": partial(side_by_side, plain_decoder(pair))}
    if runs_in_transformers(pair):
        ways["transformers.generate"] = partial(_generate, pair)
    for of in (plan, guarded(plan, table)):
        ways[of.family] = partial(side_by_side, tree_decoder(pair, ALL_SCHEMES[of.scheme], of.build(), memory=memory))
    return ways


def side_by_side(decoder: Decoder, jobs: Sequence[Job], concurrency: int) -> Run:
    """All texts of `jobs`; as soon as one ends, the next joins. Tokens are those of all texts, one after another."""
    requests = [job.request for job in jobs]
    streams, stats = decoder.open_streams(requests), DecodeStats()
    started = perf_counter()
    for record in decoder.steps(requests, streams, concurrency):
        stats.add(record)
    seconds = perf_counter() - started
    return Run([token for stream in streams for token in stream.token_ids], seconds, stats)


def concurrency_rows(
    ways: Mapping[str, Way], jobs: Sequence[Job], concurrency: int, num_rounds: int
) -> list[ConcurrencyRow]:
    """One row per way: tokens per second of all texts together, paired by round with plain decoding."""
    generator, runs = np.random.default_rng(0), {name: [] for name in ways}
    size = max(8, 3 * concurrency)
    for number in track(range(num_rounds + 1), f"bench: {concurrency} side by side"):
        order = range(number * size, (number + 1) * size)
        of_round = [varied(jobs[index % len(jobs)], index) for index in order]
        for way in generator.permutation([*ways]).tolist():
            runs[way].append(ways[way](of_round, concurrency))
    rows = []
    plain = runs["plain"][1:]  # the first round is for warming up
    for way, (_, *of_way) in runs.items():
        row = ConcurrencyRow(concurrency, way, num_rounds, *Speed.of(of_way, plain))
        stats = DecodeStats.merged(run.stats for run in of_way if run.stats is not None)
        if stats.num_steps:
            row = replace(
                row,
                block_efficiency=round(stats.block_efficiency, 3),
                nodes_per_step=round(stats.nodes_per_step, 2),
                texts_unlike_plain=num_unlike(of_way, plain),
            )
        rows.append(row)
    return rows


def print_concurrency(temperature: float, rows: Sequence[ConcurrencyRow], max_tokens: int) -> None:
    """The table of `concurrency_rows` of all concurrencies."""
    shown = [
        {
            "side by side": row.concurrency,
            "policy": row.way,
            "tokens/s": row.tokens_per_second,
            "x plain [95 %]": interval_text(row.speed_up, row.speed_up_95),
            "block eff.": or_dash(row.block_efficiency),
            "nodes/step": or_dash(row.nodes_per_step),
            "rounds of the same texts": same_text(row.texts_unlike_plain, row.rounds),
        }
        for row in rows
    ]
    print_table(f"{temperature_title(temperature)}, about {max_tokens} tokens a text, texts join as others end", shown)


def varied(job: Job, number: int) -> Job:
    """The same prompt with a seed and a length of its own: no round repeats a text."""
    length = varied_length(job.max_tokens, number)
    return job._replace(max_tokens=length, sampling=replace(job.sampling, seed=job.sampling.seed + number))


def varied_length(max_tokens: int, number: int) -> int:
    """Half to three halves of the tokens asked for. Texts of one length would end and join together, and then plain
    decoding alone would never read a prompt beside running texts."""
    return max(1, int(np.random.default_rng(number).integers(max_tokens // 2, 3 * max_tokens // 2 + 1)))


def _generate(pair: Pair, jobs: Sequence[Job], concurrency: int) -> Run:
    """transformers' own loop, one padded batch after another."""
    batches = [jobs[first : first + concurrency] for first in range(0, len(jobs), concurrency)]
    runs = [generated(pair, together) for together in batches]
    return Run([token for run in runs for token in run.tokens], sum(run.seconds for run in runs), None)
