"""Measures a latency table: interleaved medians of drafter levels and target steps through the real code path."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median
from time import perf_counter

import numpy as np

from ..controller.console import print_json, print_table, track
from ..controller.contract import COUPLED
from ..controller.latency import LatencyTable, cache_path
from ..controller.tree import Array, Children, DraftTree
from ..runtime.backends.base import CHUNK
from ..runtime.drafters.language_model import LanguageModelDrafter
from ..runtime.pair import Pair, PairConfig, load_pair
from ..runtime.sampling import Sampling, TokenSampler
from ..runtime.target import Target
from ..runtime.verification.walk import WalkVerifier


@dataclass(frozen=True)
class ProfileConfig:
    """What the latency table spans."""

    batches: tuple[int, ...] = (1,)
    """Batch sizes to measure"""
    contexts: tuple[int, ...] = (128, 512)
    """Committed tokens to measure behind"""
    widths: tuple[int, ...] = (1, 2, 4, 8)
    """Nodes expanded by one drafter level"""
    nodes: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    """Drafted nodes verified by one target step"""
    repeats: int = 15
    """Times each size is measured; the median counts"""


def profile(pair: PairConfig = PairConfig(), sizes: ProfileConfig = ProfileConfig()) -> None:
    """Measure this machine's latency table for a pair and store it in the user cache.

    Args:
        pair: The two models
        sizes: What the table spans
    """
    models = load_pair(pair)
    table = renew_table(models, sizes)
    rows = [
        {"kind": kind, "batch": batch, "context": context}
        | {f"{size}": round(ms, 2) for size, ms in zip(sizes_measured, cells, strict=True)}
        for kind, sizes_measured, tables in (
            ("drafter level, by width", table.widths, table.draft_ms),
            ("target step, by nodes", table.nodes, table.verify_ms),
        )
        for batch, by_context in zip(table.batches, tables, strict=True)
        for context, cells in zip(table.contexts, by_context, strict=True)
    ]
    for kind in ("drafter level, by width", "target step, by nodes"):
        print_table("Median milliseconds", [row for row in rows if row["kind"] == kind])
    print_json({"command": "profile", "file": str(cache_path(models.latency_key)), **table.as_dict()})


def cached_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """This machine's stored table, measured first where there is none."""
    path = cache_path(pair.latency_key)
    return LatencyTable.load(path) if path.exists() else renew_table(pair, config)


def renew_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """Measure this machine's table and store it in the user cache."""
    table = measure(pair, config)
    table.save(cache_path(pair.latency_key))
    return table


def measure(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """Measure every (batch, context, size); about ten seconds for the reference pair and the default sizes."""
    cells = {
        (batch, context): _measure_cell(pair, batch, context, config)
        for batch in config.batches
        for context in config.contexts
    }

    def table(kind: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
        return tuple(tuple(cells[batch, context][kind] for context in config.contexts) for batch in config.batches)

    return LatencyTable(
        key=pair.latency_key,
        batches=config.batches,
        contexts=config.contexts,
        widths=config.widths,
        draft_ms=table(0),
        nodes=config.nodes,
        verify_ms=table(1),
    )


def _measure_cell(
    pair: Pair, batch: int, context: int, config: ProfileConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Median ms by width and by node count, for one batch size behind one context length."""
    generator = np.random.default_rng(0)
    vocabulary_size = pair.target.vocabulary_size
    texts = [generator.integers(vocabulary_size, size=context) for _ in range(batch)]
    sampler = TokenSampler([Sampling(seed=slot) for slot in range(batch)], vocabulary_size, pair.target.device)
    target, drafter = Target(pair.target), LanguageModelDrafter(pair.drafter, COUPLED)
    capacity = context + max(CHUNK, *config.nodes, *config.widths) + 1
    target.start(texts, capacity)
    drafter.start(texts, capacity)
    roots = DraftTree.from_roots(np.array([text[-1] for text in texts]))
    root_frontier = np.zeros((batch, 1), dtype=np.int64)
    verifier = WalkVerifier()
    nobody = np.zeros(batch, dtype=bool)
    no_path = np.zeros((batch, 0), dtype=np.int64)
    positions = np.full(batch, context - 1)

    def level(width: int) -> Callable[[], None]:
        frontier = np.broadcast_to(np.arange(1, width + 1), (batch, width)).copy()

        def run() -> None:
            drafter.expand(bushy, frontier, 4, sampler)
            drafter.commit(bushy, no_path, roots.tokens[:, 0], nobody)

        return run

    def step(num_nodes: int) -> Callable[[], None]:
        tree = _bush(roots, num_nodes, vocabulary_size)

        def run() -> None:
            rows = target.score(tree)
            verifier.verify(tree, rows, sampler, positions)
            target.commit(no_path, nobody)

        return run

    drafter.expand(roots, root_frontier, 1, sampler)
    drafter.commit(roots, no_path, roots.tokens[:, 0], nobody)
    bushy = _bush(roots, max(config.widths), vocabulary_size)
    jobs: dict[tuple[str, int], Callable[[], None]] = {("draft", width): level(width) for width in {1, *config.widths}}
    jobs |= {("verify", count): step(count) for count in config.nodes}
    times = defaultdict(list)
    order = Random(0)
    names = [*(("draft", width) for width in config.widths), *(("verify", count) for count in config.nodes)]
    for _ in track(range(config.repeats), f"profile: batch {batch}, context {context}"):
        order.shuffle(names)
        for kind, size in names:
            jobs["draft", 1]()  # in life, too, a level or a step comes right after a drafter level
            start = perf_counter()
            jobs[kind, size]()
            times[kind, size].append((perf_counter() - start) * 1e3)
    return (
        tuple(round(median(times["draft", width]), 4) for width in config.widths),
        tuple(round(median(times["verify", count]), 4) for count in config.nodes),
    )


def _bush(roots: DraftTree, num_nodes: int, vocabulary_size: int) -> DraftTree:
    """Trees of one level with `num_nodes` children: what a forward costs does not depend on the shape."""
    if num_nodes == 0:
        return roots
    batch = len(roots.tokens)
    row: Array = np.zeros((batch, 1, num_nodes), dtype=np.float32)
    tokens = np.arange(num_nodes) % vocabulary_size + row.astype(np.int64)
    children = Children(tokens, row, row, row[:, :, 0], row[:, :, 0])
    return roots.extend(np.zeros((batch, 1), dtype=np.int64), children)
