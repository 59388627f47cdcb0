"""`treewright profile --engine vllm`: the latency table of trees inside vLLM on this machine.

Steps are those of a running engine, so a target step has all that vLLM does for it: scheduling, its inputs, sampling.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ....controller.console import print_json, print_table, track
from ....controller.errors import InputError
from ....controller.pricing.latency import LatencyTable, require_sizes
from ....controller.ranges import require_at_least, require_between
from ....controller.trees.limits import LARGEST, TreeLimits
from ....runtime.adapters.vllm.launch import WHOLE, VllmConfig, require_models, tree_options
from ....runtime.adapters.vllm.policy import ENGINE
from ....runtime.adapters.vllm.settings import VllmSettings
from ....runtime.hosts import VLLM, require_host
from ....runtime.machine.processor import processor_name
from ..profile import rising
from .engine import Job, open_engine, run_batch
from .sizes import SizedTrees

CHILDREN = 8  # of each node, so that two levels have any number of nodes


@dataclass(frozen=True)
class VllmSizes:
    """What the latency table spans."""

    batches: tuple[int, ...] = (1, 4, 8)
    """Batch sizes to measure"""
    contexts: tuple[int, ...] = (128, 512)
    """Committed tokens to measure behind"""
    widths: tuple[int, ...] = (1, 2, 4, 8)
    """Nodes expanded by one drafter level; vLLM's own drafters expand one"""
    nodes: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8, 12)
    """Drafted nodes verified by one target step"""
    repeats: int = 8
    """Steps per size, about; the median counts"""

    def __post_init__(self) -> None:
        for name in ("batches", "contexts", "widths", "nodes"):
            require_sizes(name, getattr(self, name))
        require_at_least("repeats of a latency table", self.repeats, 1)


def profile(out: Path, vllm: VllmConfig = VllmConfig(), sizes: VllmSizes = VllmSizes()) -> None:
    """Measure the latency table of trees inside vLLM, for treewright.latency of its settings.

    Args:
        out: File to write
        vllm: Which models vLLM decodes, and what drafts for them
        sizes: What the table spans
    """
    require_host(VLLM, "--engine")
    table = measure(vllm, sizes)
    table.save(out)
    rows = [
        {"batch": batch, "context": context}
        | {str(count): round(ms, 2) for count, ms in zip(table.nodes, cells, strict=True)}
        for batch, by_context in zip(table.batches, table.verify_ms, strict=True)
        for context, cells in zip(table.contexts, by_context, strict=True)
    ]
    print_table("Median milliseconds of a target step inside vLLM, by nodes", rows)
    print_json({"command": "profile", "file": str(out), **table.as_dict()})


def measure(vllm: VllmConfig, sizes: VllmSizes) -> LatencyTable:
    """Every batch size and context in one engine."""
    if vllm.drafter is None:
        raise InputError("vllm.drafter is none, but the steps that are measured draft; give one")
    if max(sizes.contexts) >= vllm.max_model_len:
        raise InputError(
            f"sizes.contexts has {max(sizes.contexts)}, but texts have at most {vllm.max_model_len} tokens, and the "
            "steps to measure come behind it; lower it or raise vllm.max_model_len"
        )
    require_between("the most of sizes.nodes", max(sizes.nodes), 1, LARGEST.budget)
    widths = sizes.widths if vllm.method == WHOLE else (1,)
    limits = TreeLimits(max_depth=4, width=CHILDREN, frontier=max(widths), budget=max(sizes.nodes))
    options = tree_options(vllm, VllmSettings())
    options["speculative_config"]["num_speculative_tokens"] = max(sizes.nodes)
    options |= {"max_num_seqs": max(sizes.batches), "enable_prefix_caching": False}
    require_models(vllm)
    cells: dict[tuple[int, int], Cell] = {}
    with open_engine(options) as llm:
        runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner
        pairs = [(batch, context) for batch in sizes.batches for context in sizes.contexts]
        for batch, context in track(pairs, "profile: batches and contexts"):
            policy = SizedTrees(limits, widths, sizes.nodes)
            runner.planner.shape(policy)
            policy.batch = batch
            generator, vocabulary = np.random.default_rng(0), runner.model_config.get_vocab_size()
            length = min(sizes.repeats * len(widths) * len(sizes.nodes), vllm.max_model_len - context)
            prompts = generator.integers(vocabulary, size=(batch, context)).tolist()
            run_batch(llm, [Job(prompt, length, 1.0, seed, "") for seed, prompt in enumerate(prompts)])
            cells[batch, context] = Cell.of(policy, widths, sizes.nodes)

    def column(name: str) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(getattr(cells[batch, each], name) for each in sizes.contexts) for batch in sizes.batches)

    return LatencyTable(
        key=latency_key(vllm),
        batches=sizes.batches,
        contexts=sizes.contexts,
        root_ms=column("root"),
        widths=widths,
        draft_ms=column("draft"),
        nodes=sizes.nodes,
        verify_ms=column("verify"),
    )


@dataclass(frozen=True)
class Cell:
    """Median milliseconds at one batch size and context."""

    root: float
    draft: tuple[float, ...]
    verify: tuple[float, ...]

    @classmethod
    def of(cls, policy: SizedTrees, widths: tuple[int, ...], nodes: tuple[int, ...]) -> "Cell":
        """A size that no step had takes what the next smaller one that was seen takes."""

        def costs(kind: str, wanted: tuple[int, ...]) -> tuple[float, ...]:
            seen = {size: median(times) for (name, size), times in policy.times.items() if name == kind}
            below = [max((size for size in seen if size <= one), default=min(seen)) for one in wanted]
            return rising([seen[size] for size in below])

        return cls(round(median(policy.times["root", 1]), 4), costs("draft", widths), costs("verify", nodes))


def latency_key(vllm: VllmConfig) -> dict[str, str]:
    """The conditions under which the table holds."""
    return {
        "pair": f"{Path(vllm.target).name}+{Path(vllm.drafter or '').name}",
        "engine": ENGINE,
        "method": vllm.method,
        "device": "cpu",
        "processor": processor_name(torch.device("cpu")),
        "dtype": vllm.dtype,
        "threads": str(torch.get_num_threads()),
    }
