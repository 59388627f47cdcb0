"""How many CPU threads a pair runs on where no number is given: small models run best on few."""

import os
from collections.abc import Iterable, Mapping

from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.latency_cache import stored_table
from ...controller.ranges import require_between

# Drafted nodes up to which target steps are compared.
NODES = 16
# Of the default's plain step, a step on another thread count takes at most this share to be chosen over it: where it is
# a close race, wide trees gain from more threads what a plain step does not.
CLEARLY_FASTER = 0.8


def is_undecided(threads: int, device: str) -> bool:
    """Whether no number of CPU threads is given; `threads` is the setting of that name."""
    return threads == 0 and device == "cpu" and "OMP_NUM_THREADS" not in os.environ


def require_threads(name: str, count: int) -> None:
    """InputError for more or fewer CPU threads than this machine can run at once."""
    require_between(name, count, 1, os.cpu_count() or 1)


def race_winner(median_ms: Mapping[int, float], default: int) -> int:
    """The thread count to run on, by the median milliseconds of a plain target step on each."""
    fastest = min(median_ms, key=lambda count: median_ms[count])
    return fastest if median_ms[fastest] <= CLEARLY_FASTER * median_ms[default] else default


def stored_fastest(key: Mapping[str, str]) -> int | None:
    """The best thread count by the latency tables in the user cache that differ from `key` by their threads at most;
    None where there are none."""
    counts = range(1, (os.cpu_count() or 1) + 1)
    tables = [table for count in counts if (table := stored_table({**key, "threads": str(count)})) is not None]
    return fastest(tables) if tables else None


def fastest(tables: Iterable[LatencyTable]) -> int:
    """The thread count of the table whose target steps of one text are the shortest."""
    return int(min(tables, key=target_ms).key["threads"])


def target_ms(table: LatencyTable) -> float:
    """Mean of a step over none to `NODES` drafted nodes, behind a short text."""
    return float(table.verify_costs(NODES, batch=1, context=1).mean())
