"""The price of a step: a measured staircase of milliseconds, never a formula with one slope."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import InputError
from ..files import atomic_write
from ..trees.tree import Array

SCHEMA_VERSION = 2
LARGEST = 2**31  # sizes and milliseconds beyond it are those of a damaged file
# The smallest value of each list of sizes; `nodes` begins with it, because it prices a plain step.
LEAST_SIZES = {"batches": 1, "contexts": 1, "widths": 1, "nodes": 0}
T = TypeVar("T")


@dataclass(frozen=True)
class LatencyTable:
    """Median milliseconds measured on one machine; a size between two measured ones costs as much as the larger.

    Tuples nest as [batch][context][size]; beyond the largest measured size the last slope is carried on. InputError
    where the sizes do not ascend, the prices do not nest so, or one is no finite number above 0.
    """

    key: dict[str, str]  # pair, engine, device, dtype, threads: where the numbers hold
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    root_ms: tuple[tuple[float, ...], ...]  # [batch][context]: a step's first level, which reads what was committed
    widths: tuple[int, ...]  # nodes expanded by a later drafter level, per request
    draft_ms: tuple[tuple[tuple[float, ...], ...], ...]
    nodes: tuple[int, ...]  # drafted nodes verified, root left out, per request
    verify_ms: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.key, dict) or not all(isinstance(word, str) for word in self.key.values()):
            raise InputError(f"the key of a latency table names strings, got {self.key!r}")
        for name in LEAST_SIZES:
            require_sizes(name, getattr(self, name))
        cells = len(self.batches), len(self.contexts)
        for name, shape in (
            ("root_ms", cells),
            ("draft_ms", (*cells, len(self.widths))),
            ("verify_ms", (*cells, len(self.nodes))),
        ):
            if not _are_prices(getattr(self, name), shape):
                raise InputError(f"{name} is not {'x'.join(map(str, shape))} finite prices above 0")

    def draft_costs(self, max_width: int, *, level: int, batch: int, context: int) -> Array:
        """[max_width + 1] ms of a step's drafter level, the decision to draft it included, by the number of nodes it
        expands; level 0 expands the root, and what else is read with it. Entry 0 is 0."""
        later = _staircase(self.widths, self._at(self.draft_ms, batch, context), max_width, 0.0)
        if level:
            return later
        first = self._at(self.root_ms, batch, context) + later - later[min(1, max_width)]
        first[0] = 0.0
        return first

    def verify_costs(self, max_nodes: int, *, batch: int, context: int) -> Array:
        """[max_nodes + 1] ms of one target step by the number of drafted nodes; entry 0 is a plain step."""
        return _staircase(self.nodes, self._at(self.verify_ms, batch, context), max_nodes)

    def step_ms(self, level_widths: Sequence[int], num_nodes: int, *, batch: int, context: int) -> float:
        """Price of a step: its drafter levels by the nodes each expands, and `num_nodes` drafted nodes verified."""
        verify = self.verify_costs(num_nodes, batch=batch, context=context)
        return self.levels_ms(level_widths, batch=batch, context=context) + float(verify[num_nodes])

    def levels_ms(self, level_widths: Sequence[int], *, batch: int, context: int) -> float:
        """Price of a step's drafter levels alone."""
        if not level_widths:
            return 0.0
        first, later = (
            self.draft_costs(max(level_widths), level=level, batch=batch, context=context) for level in (0, 1)
        )
        return float(first[level_widths[0]] + sum(later[width] for width in level_widths[1:]))

    def plain_ms(self, num_unread: int = 0, *, batch: int, context: int) -> float:
        """Of a plain step that reads so many tokens of prompts as well. It lies on a line between measured sizes: what
        clocks are held against may not jump with the batch."""
        place, last = _bucket(self.contexts, context), _bucket(self.batches, batch)
        near = range(max(0, last - 1), last + 1)
        costs = [_on_line(self.nodes, self.verify_ms[each][place], num_unread / batch) for each in near]
        return _on_line([self.batches[each] for each in near], costs, batch)

    def measured_batch(self, batch: int) -> int:
        """The batch size whose prices count for a batch."""
        return self.batches[_bucket(self.batches, batch)]

    def _at(self, prices: tuple[tuple[T, ...], ...], batch: int, context: int) -> T:
        return prices[_bucket(self.batches, batch)][_bucket(self.contexts, context)]

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all: InputError where the disk refuses, and an older table stays as it was."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(self.as_dict(), indent=1).encode())
        except OSError as error:
            raise InputError(
                f"latency table {path} cannot be written ({error.strerror or error}); correct that and run the same "
                "command again"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table; InputError where the file is missing, damaged or of another schema."""
        try:
            document = json.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise ValueError("it holds no JSON object")
            values = {name: _tuples(value) for name, value in document.items()}
            version = values.pop("schema_version", None)
            if version != SCHEMA_VERSION:
                raise ValueError(f"it has schema {version}, this build reads {SCHEMA_VERSION}")
            names = {field.name for field in fields(cls)}
            if values.keys() != names:
                raise ValueError(f"its fields are {', '.join(sorted(values))}, not {', '.join(sorted(names))}")
            return cls(**values)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"no latency table can be read from {path} ({error}); run `treewright profile`, or for a trace "
                "folder's table `treewright collect`"
            ) from error


def require_sizes(name: str, sizes: object) -> None:
    """InputError unless `sizes` are distinct ascending integers, from the least that `LEAST_SIZES` allows on."""
    least = LEAST_SIZES[name]
    if (
        not isinstance(sizes, tuple)
        or not sizes
        or not all(type(size) is int for size in sizes)
        or not least <= sizes[0] <= sizes[-1] < LARGEST
        or any(size >= larger for size, larger in pairwise(sizes))
    ):
        raise InputError(f"{name} of a latency table are ascending whole numbers from {least} up, got {sizes}")
    if name == "nodes" and sizes[0] > 0:
        raise InputError(f"nodes of a latency table begin with 0, a plain step's, got {sizes}")


def _bucket(sizes: tuple[int, ...], size: int) -> int:
    return min(bisect_left(sizes, size), len(sizes) - 1)


def _on_line(sizes: Sequence[int], costs: Sequence[float], size: float) -> float:
    """Between two of the ascending sizes what the line through them says, and beyond the last where the last line goes
    on, if it ascends."""
    if size <= sizes[0] or len(sizes) == 1:
        return costs[0]
    upper = min(bisect_left(sizes, size), len(sizes) - 1)
    slope = (costs[upper] - costs[upper - 1]) / (sizes[upper] - sizes[upper - 1])
    return costs[upper] + (size - sizes[upper]) * (max(0.0, slope) if size > sizes[upper] else slope)


@lru_cache(maxsize=256)
def _staircase(
    sizes: tuple[int, ...], costs: tuple[float, ...], largest: int, for_nothing: float | None = None
) -> Array:
    """[largest + 1] costs by size, entry 0 `for_nothing` if that is given."""
    wanted = np.arange(largest + 1)
    stairs = np.asarray(costs)[np.minimum(np.searchsorted(sizes, wanted), len(sizes) - 1)]
    if len(sizes) > 1:
        slope = max(0.0, (costs[-1] - costs[-2]) / (sizes[-1] - sizes[-2]))
        stairs = stairs + slope * np.maximum(wanted - sizes[-1], 0)
    if for_nothing is not None:
        stairs[0] = for_nothing
    stairs.setflags(write=False)
    return stairs


def _are_prices(prices: object, shape: Sequence[int]) -> bool:
    """Whether they nest in that shape and are finite and above 0."""
    if not shape:
        return isinstance(prices, int | float) and not isinstance(prices, bool) and 0 < prices < LARGEST
    return (
        isinstance(prices, tuple) and len(prices) == shape[0] and all(_are_prices(each, shape[1:]) for each in prices)
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
