"""Measures a latency table: interleaved medians of drafter levels and target steps through the real code path."""

from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from scipy.optimize import isotonic_regression

from ...controller.console import print_json, print_table, track
from ...controller.errors import InputError
from ...controller.pricing.latency import LEAST_SIZES, LatencyTable, require_sizes
from ...controller.pricing.latency_cache import cache_path, stored_table
from ...controller.ranges import require_at_least
from ...runtime.engines.transformers.shapes import ROWS
from ...runtime.machine.threads import fastest, is_undecided, require_threads, target_ms
from ...runtime.pair import Pair, PairConfig, load_pair
from .thread_race import race, settle
from .workbench import Workbench

NODES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
CAPTURED_NODES = (0, *(rows - 1 for rows in ROWS if rows <= 32))


@dataclass(frozen=True)
class ProfileConfig:
    """What the latency table spans."""

    batches: tuple[int, ...] = (1,)
    """Batch sizes to measure"""
    contexts: tuple[int, ...] = (128, 512)
    """Committed tokens to measure behind"""
    widths: tuple[int, ...] = (1, 2, 4, 8)
    """Nodes expanded by one drafter level"""
    nodes: tuple[int, ...] = ()
    """Drafted nodes verified by one target step; none given: up to 32, on cuda those that fill a captured shape with
    the root"""
    repeats: int = 15
    """Times each size is measured; the median counts"""

    def __post_init__(self) -> None:
        for name in LEAST_SIZES:
            if name != "nodes" or self.nodes:
                require_sizes(name, getattr(self, name))
        require_at_least("repeats of a latency table", self.repeats, 1)

    def on(self, device: torch.device) -> "ProfileConfig":
        """With the nodes that are timed on this device."""
        return replace(self, nodes=self.nodes or (NODES if device.type == "cpu" else CAPTURED_NODES))


def profile(
    pair: PairConfig = PairConfig(), sizes: ProfileConfig = ProfileConfig(), threads: tuple[int, ...] = ()
) -> None:
    """Measure this machine's latency table for a pair and store it in the user cache.

    Args:
        pair: The two models
        sizes: What the table spans
        threads: CPU threads to measure a table for each; the pair then runs on the fastest, unless configured (none,
            and no pair.threads: torch's own choice, or one thread where that is clearly faster)
    """
    for count in threads:
        require_threads("threads", count)
    if len(set(threads)) < len(threads):
        raise InputError(f"threads are distinct numbers, got {list(threads)}")
    if threads and pair.threads:
        raise InputError(
            f"threads {list(threads)} and pair.threads {pair.threads} are both given; leave one of them out"
        )
    default = torch.get_num_threads()
    models = load_pair(pair)
    tables = [renew_table(models, sizes, count) for count in threads] or [renew_on_fastest(models, sizes, default)]
    table = next(table for table in tables if int(table.key["threads"]) == fastest(tables))
    if len(tables) > 1:
        means = [{"threads": int(each.key["threads"]), "ms": round(target_ms(each), 2)} for each in tables]
        print_table("Mean milliseconds of a target step, by CPU threads; below, the tables of the fastest", means)
    of_roots = tuple(tuple((ms,) for ms in by_context) for by_context in table.root_ms)
    for title, sizes_measured, prices in (
        ("Median milliseconds of a step's first drafter level", ("ms",), of_roots),
        ("Median milliseconds of a later drafter level, by width", table.widths, table.draft_ms),
        ("Median milliseconds of a target step, by nodes", table.nodes, table.verify_ms),
    ):
        rows = [
            {"batch": batch, "context": context}
            | {str(size): round(ms, 2) for size, ms in zip(sizes_measured, cells, strict=True)}
            for batch, by_context in zip(table.batches, prices, strict=True)
            for context, cells in zip(table.contexts, by_context, strict=True)
        ]
        print_table(title, rows)
    print_json({"command": "profile", "file": str(cache_path(table.key)), **table.as_dict()})


def renew_on_fastest(pair: Pair, config: ProfileConfig, default: int) -> LatencyTable:
    """Measure and store a table on as many threads as torch has by itself, `default`, or fewer where those are clearly
    faster; on as many as it has now where the number was configured.

    A stored table of another count that was tried, and whose prices are lower, was measured under another load: it is
    removed, so that other commands find the one that was measured now.
    """
    if default == 1 or not is_undecided(pair.config.threads, pair.config.device):
        return renew_table(pair, config)
    median_ms = race(pair, {1, default, torch.get_num_threads()})
    settle(median_ms, default)
    table = renew_table(pair, config)
    for count in median_ms.keys() - {torch.get_num_threads()}:
        key = {**pair.latency_key, "threads": str(count)}
        other = stored_table(key)
        if other is not None and target_ms(other) <= target_ms(table):
            cache_path(key).unlink(missing_ok=True)
    return table


def renew_table(pair: Pair, config: ProfileConfig, threads: int | None = None) -> LatencyTable:
    """Measure this machine's table, on other `threads` than now if given, and store it in the user cache."""
    torch.set_num_threads(threads or torch.get_num_threads())
    table = measure(pair, config)
    table.save(cache_path(pair.latency_key))
    return table


def measure(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """Measure every (batch, context, size); ten to thirty seconds for the reference pair and the default sizes."""
    config = config.on(pair.target.device)
    cells = {
        (batch, context): _measure_cell(pair, batch, context, config)
        for batch in config.batches
        for context in config.contexts
    }

    def table(kind: str) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(getattr(cells[batch, each], kind) for each in config.contexts) for batch in config.batches)

    return LatencyTable(
        key=pair.latency_key,
        batches=config.batches,
        contexts=config.contexts,
        root_ms=table("root"),
        widths=config.widths,
        draft_ms=table("draft"),
        nodes=config.nodes,
        verify_ms=table("verify"),
    )


class Cell(NamedTuple):
    """Median milliseconds for one batch size behind one context length."""

    root: float
    draft: tuple[float, ...]  # by width
    verify: tuple[float, ...]  # by node count


def _measure_cell(pair: Pair, batch: int, context: int, config: ProfileConfig) -> Cell:
    sizes = {"widths": config.widths, "nodes": config.nodes}
    bench = Workbench(pair, batch, context, **sizes, num_roots=config.repeats)
    names = [("root", 1), *(("draft", width) for width in config.widths), *(("verify", n) for n in config.nodes)]
    times = defaultdict(list)
    order = Random(0)
    for _ in track(range(config.repeats), f"profile: batch {batch}, context {context}"):
        order.shuffle(names)
        for kind, size in names:
            # As in decoding: a first level follows a target step, everything else follows a drafter level.
            bench.verify(0) if kind == "root" else bench.draft(1)
            start = perf_counter()
            getattr(bench, kind)(size)
            times[kind, size].append((perf_counter() - start) * 1e3)
    return Cell(
        round(median(times["root", 1]), 4),
        rising([median(times["draft", width]) for width in config.widths]),
        rising([median(times["verify", count]) for count in config.nodes]),
    )


def rising(costs: list[float]) -> tuple[float, ...]:
    """The nearest costs that never fall with size: a larger forward is not cheaper, and a policy would prefer a size
    that was measured so by chance."""
    return tuple(isotonic_regression(costs).x.round(4).tolist())
