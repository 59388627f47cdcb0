"""The thread count that a latency table is measured on where none is configured.

Torch's default is raced against one thread: on a machine that others use too, threads wait for each other,
and a step can take forty times as long as on one.
"""

import logging
from collections.abc import Iterable, Mapping
from statistics import median
from time import perf_counter

import torch

from ...runtime.machine.threads import race_winner
from ...runtime.pair import Pair
from .workbench import Workbench

CONTEXT = 16
ROUNDS = 5
# No round starts after that many seconds: on a busy machine one can take seconds.
RACE_SECONDS = 5.0

log = logging.getLogger(__name__)


def race(pair: Pair, counts: Iterable[int]) -> dict[int, float]:
    """Median milliseconds of a plain target step by thread count, from interleaved rounds; leaves torch on any."""
    torch.set_num_threads(1)
    bench = Workbench(pair, 1, CONTEXT, widths=(1,), nodes=(0,), num_roots=1)
    times: dict[int, list[float]] = {count: [] for count in sorted(counts)}
    first = perf_counter()
    for _ in range(ROUNDS):
        for count in times:
            torch.set_num_threads(count)
            bench.verify(0)  # starts the threads
            start = perf_counter()
            bench.verify(0)
            times[count].append((perf_counter() - start) * 1e3)
        if perf_counter() - first > RACE_SECONDS:
            break
    return {count: median(of_count) for count, of_count in times.items()}


def settle(median_ms: Mapping[int, float], default: int) -> None:
    """Set torch to `default` threads, or to the count whose step is clearly shorter, and log that."""
    chosen = race_winner(median_ms, default)
    torch.set_num_threads(chosen)
    if chosen != default:
        log.warning(
            "a plain target step takes %.1f ms on %s, but %.1f ms on %s: the latency table is measured on %s, and "
            "commands without a configured number of threads use as many",
            median_ms[default],
            _words(default),
            median_ms[chosen],
            _words(chosen),
            _words(chosen),
        )


def _words(count: int) -> str:
    return f"{count} CPU thread{'s' if count > 1 else ''}"
