"""The policies under comparison, each a short grid of settings; every grid has the same number of trials.

The first setting of a grid is what an untuned run takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from ...controller.checkpoint import Checkpoint
from ...controller.contract import LawTerms
from ...controller.latency import LatencyTable
from ...controller.objective import Objective
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.rank import RankScorer
from ...controller.selector import Selector, TreeLimits
from ...controller.shapes import chain
from ...runtime.decode import Decoder, Request
from ...runtime.pair import Pair
from ...runtime.sampling import Sampling
from ...runtime.speculation import learned_selector, plain_decoder, tree_decoder
from ...runtime.stats import DecodeStats, StepRecord

DEPTH, WIDTH, FRONTIER = 8, 4, 8


@dataclass(frozen=True)
class Run:
    """One prompt continued by one policy."""

    tokens: list[int]
    seconds: float
    stats: DecodeStats | None  # None for a loop that is not ours
    priced_ms: float = 0.0  # what its steps cost by the latency table


@dataclass(frozen=True)
class Policy:
    """A policy with its settings fixed."""

    family: str
    law: str  # "-" where nothing is drafted
    settings: str
    run: Callable[[list[int], int, Sampling], Run]


def reference_policies(pair: Pair, table: LatencyTable) -> list[Policy]:
    """Plain decoding in our loop and in transformers' own."""
    return [
        Policy("plain", "-", "", _runner(plain_decoder(pair), table)),
        Policy("transformers.generate", "-", "", lambda *job: _generate(pair, *job)),
    ]


def families(
    pair: Pair, laws: list[LawTerms], checkpoint: Checkpoint, table: LatencyTable, temperature: float
) -> dict[tuple[str, str], list[Policy]]:
    """The grid of every tree policy, by (family, law)."""
    grids: dict[tuple[str, str], list[Policy]] = {}

    def add(family: str, law: LawTerms, settings: dict[str, Any], selector: Selector) -> None:
        text = " ".join(f"{name}={value}" for name, value in settings.items())
        policy = Policy(family, law.name, text, _runner(tree_decoder(pair, law, selector), table))
        grids.setdefault((family, law.name), []).append(policy)

    for law in laws:
        rank_probs = checkpoint.baselines["rank_probs"][law.name]
        rank_probs = rank_probs[min(rank_probs, key=lambda other: abs(float(other) - temperature))]
        for depth in (3, 1, 2, 4, 6):
            limits = TreeLimits(max_depth=depth, width=1, frontier=1, budget=depth)
            add("chain", law, {"depth": depth}, Selector(RankScorer.from_paths(chain(depth)), limits))
        for depth, budget in ((3, 8), (2, 4), (2, 8), (4, 12), (5, 16)):
            limits = TreeLimits(max_depth=depth, width=WIDTH, frontier=2 * FRONTIER, budget=budget)
            scorer = RankScorer.from_rank_probs(rank_probs, depth)
            add("static", law, {"depth": depth, "budget": budget}, Selector(scorer, limits))
        for depth, budget in ((3, 8), (2, 4), (2, 8), (4, 12), (5, 16)):
            limits = TreeLimits(max_depth=depth, width=WIDTH, frontier=WIDTH, budget=budget)
            add("EAGLE-2", law, {"depth": depth, "budget": budget}, Selector(ConfidenceScorer(), limits))
        for delta, budget in ((0.4, 8), (0.2, 8), (0.2, 16), (0.4, 16), (0.6, 16)):
            limits = TreeLimits(max_depth=DEPTH, width=WIDTH, frontier=WIDTH, budget=budget)
            selector = Selector(ConfidenceScorer(), limits, delta=delta)
            add("OPT-Tree", law, {"delta": delta, "budget": budget}, selector)
        if law.name == checkpoint.config.law:
            for scale in (1.0, 0.7, 0.85, 1.2, 1.4):
                limits = checkpoint.config.limits
                scorer = ConfidenceScorer(checkpoint.config.coverage)
                selector = Selector(scorer, limits, objective=Objective(table, scale=scale))
                add("choice, confidence", law, {"theta scale": scale}, selector)
                add("learned", law, {"theta scale": scale}, learned_selector(checkpoint, table, theta_scale=scale))
    return grids


def _runner(decoder: Decoder, table: LatencyTable) -> Callable[[list[int], int, Sampling], Run]:
    def run(prompt_ids: list[int], max_tokens: int, sampling: Sampling) -> Run:
        requests = [Request(prompt_ids, max_tokens, sampling, ignore_end=True)]
        started = perf_counter()
        (stream,) = streams = decoder.open_streams(requests)
        records = list(decoder.steps(requests, streams))
        seconds = perf_counter() - started
        stats = DecodeStats()
        for record in records:
            stats.add(record)
        return Run(stream.token_ids, seconds, stats, sum(_price(table, record) for record in records))

    return run


def _price(table: LatencyTable, record: StepRecord) -> float:
    context, num_nodes = int(record.context.positions[0]), int(record.kept.num_nodes[0]) - 1
    return table.step_ms(record.level_widths, num_nodes, batch=1, context=context)


def _generate(pair: Pair, prompt_ids: list[int], max_tokens: int, sampling: Sampling) -> Run:
    """transformers' own plain loop; its noise is its own, so the text differs at T > 0."""
    inputs = torch.tensor([prompt_ids], device=pair.target.device)
    drawn: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    torch.manual_seed(sampling.seed)
    started = perf_counter()
    with torch.inference_mode():
        model: Any = pair.target.model
        output = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_tokens,
            min_new_tokens=max_tokens,
            pad_token_id=0,
            **drawn,
        )
    return Run(output[0, len(prompt_ids) :].tolist(), perf_counter() - started, None)
