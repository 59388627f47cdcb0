"""How many CPU threads a pair runs on where nobody has said: small models run best on few."""

import os
from collections.abc import Iterable, Mapping

from ..controller.latency import LatencyTable, cache_path

# Drafted nodes up to which target steps are compared.
NODES = 16


def stored_fastest(key: Mapping[str, str]) -> int | None:
    """The best thread count by the latency tables in the user cache that differ from `key` by their threads at most;
    None where there are no two to compare."""
    paths = [cache_path({**key, "threads": str(count)}) for count in range(1, (os.cpu_count() or 1) + 1)]
    tables = [LatencyTable.load(path) for path in paths if path.exists()]
    return fastest(tables) if len(tables) > 1 else None


def fastest(tables: Iterable[LatencyTable]) -> int:
    """The thread count of the table whose target steps of one text are the shortest."""
    return int(min(tables, key=target_ms).key["threads"])


def target_ms(table: LatencyTable) -> float:
    """Mean of a step over none to `NODES` drafted nodes, behind a short text."""
    return float(table.verify_costs(NODES, batch=1, context=1).mean())
