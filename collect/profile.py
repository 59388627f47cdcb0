"""Measures a latency table: interleaved medians of drafter levels and target steps through the real code path."""

from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from ..controller.children import Children
from ..controller.console import print_json, print_table, track
from ..controller.context import StepContext
from ..controller.contract import COUPLED
from ..controller.history import START
from ..controller.latency import LatencyTable, cache_path
from ..controller.objective import Objective
from ..controller.scorers.confidence import ConfidenceScorer
from ..controller.selector import Selector, TreeLimits
from ..controller.tree import Array, DraftTree
from ..runtime.backends.base import CHUNK
from ..runtime.drafters.language_model import LanguageModelDrafter
from ..runtime.pair import Pair, PairConfig, load_pair
from ..runtime.sampling import Sampling, TokenSampler
from ..runtime.target import Target
from ..runtime.verification.walk import WalkVerifier

NO_ROWS = np.zeros((0, 0), dtype=np.int64)


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
    print_table("Median milliseconds of a step's first drafter level", _root_rows(table))
    for kind in ("drafter level, by width", "target step, by nodes"):
        print_table("Median milliseconds", [row for row in rows if row["kind"] == kind])
    print_json({"command": "profile", "file": str(cache_path(models.latency_key)), **table.as_dict()})


def _root_rows(table: LatencyTable) -> list[dict[str, float]]:
    return [
        {"batch": batch, "context": context, "ms": round(ms, 2)}
        for batch, by_context in zip(table.batches, table.root_ms, strict=True)
        for context, ms in zip(table.contexts, by_context, strict=True)
    ]


def renew_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """Measure this machine's table and store it in the user cache."""
    table = measure(pair, config)
    table.save(cache_path(pair.latency_key))
    return table


def measure(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """Measure every (batch, context, size); ten to thirty seconds for the reference pair and the default sizes."""
    cells = {
        (batch, context): _measure_cell(pair, batch, context, config)
        for batch in config.batches
        for context in config.contexts
    }

    def table(kind: str) -> tuple[tuple[tuple[float, ...], ...], ...]:
        return tuple(
            tuple(getattr(cells[batch, context], kind) for context in config.contexts) for batch in config.batches
        )

    return LatencyTable(
        key=pair.latency_key,
        batches=config.batches,
        contexts=config.contexts,
        root_ms=tuple(tuple(cells[batch, context].root for context in config.contexts) for batch in config.batches),
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
    bench = _Workbench(pair, batch, context, config)
    names = [("root", 1), *(("draft", width) for width in config.widths), *(("verify", n) for n in config.nodes)]
    times = defaultdict(list)
    order = Random(0)
    for _ in track(range(config.repeats), f"profile: batch {batch}, context {context}"):
        order.shuffle(names)
        for kind, size in names:
            # In life, a first level comes right after a target step, and all else right after a drafter level.
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
    """The nearest costs that never fall with size: a larger forward is not cheaper, and a policy that believed one
    measured so would seek it out."""
    return tuple(isotonic_regression(costs).x.round(4).tolist())


class _Workbench:
    """The parts of a decode step, each with what the controller does for it, to be run by themselves."""

    def __init__(self, pair: Pair, batch: int, context: int, config: ProfileConfig):
        generator = np.random.default_rng(0)
        vocabulary_size = pair.target.vocabulary_size
        texts = [generator.integers(vocabulary_size, size=context) for _ in range(batch)]
        self._sampler = TokenSampler(
            [Sampling(seed=slot) for slot in range(batch)], vocabulary_size, pair.target.device
        )
        self._target, self._drafter = Target(pair.target), LanguageModelDrafter(pair.drafter, COUPLED, ngrams=True)
        self._verifier = WalkVerifier()
        # A root level leaves two tokens more behind it, each time it is run.
        capacity = context + 4 * config.repeats + max(CHUNK, *config.nodes, *config.widths) + 1
        self._target.open()
        self._drafter.open()
        for slot, text in enumerate(texts):
            self._target.join(text, capacity)
            self._target.read(slot, self._target.num_unread(slot))
            self._drafter.join(text, capacity)
        self._roots = DraftTree.from_roots(np.array([text[-1] for text in texts]))
        self._trees = {size: _bush(self._roots, size, vocabulary_size) for size in {*config.nodes, *config.widths}}
        self._widest = self._trees[max(config.widths)]
        prices = LatencyTable({}, (1,), (1,), ((1.0,),), (1,), (((1.0,),),), (0,), (((1.0,),),))
        limits = TreeLimits(frontier=max(config.widths), budget=max(config.nodes))
        self._selector = Selector(ConfidenceScorer(), limits, objective=Objective(prices))
        self._context = StepContext(
            positions=np.full(batch, context - 1),
            remaining=np.full(batch, 64),
            temperatures=self._sampler.temperatures,
            top_ps=self._sampler.top_ps,
            history=np.tile(START, (batch, 1)),
        )
        self._batch = batch
        self.root(1)

    def _new_step(self) -> StepContext:
        """The same situation as a step of its own; within one, the selector remembers its scores."""
        return replace(self._context)

    def root(self, width: int) -> None:
        """A step's first level: read the two tokens that were committed last, hang children under the root."""
        self._selector.frontier(self._roots, self._new_step())
        frontier = np.zeros((self._batch, width), dtype=np.int64)
        tree = self._drafter.expand(self._roots, frontier, self._selector.limits.width, self._sampler)
        self._drafter.commit(tree, np.ones((self._batch, 1), dtype=np.int64), self._roots.tokens[:, 0])

    def draft(self, width: int) -> None:
        """A later level that expands `width` nodes per request."""
        tree = self._widest
        self._selector.frontier(tree, self._new_step())
        frontier = np.broadcast_to(np.arange(1, width + 1), (self._batch, width)).copy()
        self._drafter.expand(tree, frontier, self._selector.limits.width, self._sampler)
        self._drafter.model.commit(NO_ROWS)
        self._drafter.forget_tree(self._batch)

    def verify(self, num_nodes: int) -> None:
        """A target step over `num_nodes` drafted nodes per request, root left out."""
        tree = self._trees[num_nodes]
        if num_nodes:
            self._selector.keep(tree, self._new_step())
        rows = self._target.score(tree)
        self._verifier.verify(tree, rows, (), self._sampler, self._context.positions)
        self._target.model.commit(NO_ROWS)


def _bush(roots: DraftTree, num_nodes: int, vocabulary_size: int) -> DraftTree:
    """Trees of one level with `num_nodes` children: what a forward costs does not depend on the shape."""
    if num_nodes == 0:
        return roots
    batch = len(roots.tokens)
    row: Array = np.zeros((batch, 1, num_nodes), dtype=np.float32)
    tokens = np.arange(num_nodes) % vocabulary_size + row.astype(np.int64)
    children = Children(tokens, row, row, row[:, :, 0], row[:, :, 0])
    return roots.extend(np.zeros((batch, 1), dtype=np.int64), children)
