"""The time of a verification alone, and as a share of a target forward over as many nodes.

Rows are synthetic, so that any vocabulary can be priced without a model of it. Target and drafter agree about as well
as a useful pair does, so that sampled trees are accepted some tokens deep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....controller.console import print_table, track
from ....controller.context import StepContext
from ....controller.contract import FIXED, HYBRID, SAMPLED_SCHEMES, Scheme, VerifierTerms
from ....controller.learned.history import START
from ....controller.plans.sampled_grids import CHAIN_VERIFIERS, verifier_grids
from ....controller.policies.delayed import sampled_shape
from ....controller.trees.children import Children
from ....controller.trees.tree import DraftTree
from ....runtime.pair import Pair
from ....runtime.sampling import Sampling, TokenSampler
from ....runtime.schemes.sampled import append_draws
from ....runtime.verification import get_verifier
from ..profile import ProfileConfig, measure

NODES = (8, 16, 32, 64)
NUM_PATHS = 4  # of every tree but a chain; spectr-fixed supports no more
MOST_CHAIN = 16
LARGE_VOCABULARY = 152_064
REPEATS = 15
# Standard deviations of the drafter's logits, and of what the target's differ by: five drafts in eight are accepted.
SPREAD, DISAGREEMENT = 3.0, 1.0


@dataclass(frozen=True)
class VerificationCost:
    """The time of a verifier, by the number of drafted nodes."""

    verifier: str
    scheme: str
    vocabulary: int
    ms: dict[int, float]
    share: dict[int, float]  # of a target step over as many nodes

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"verifier": self.verifier, "scheme": self.scheme, "vocabulary": self.vocabulary}
        for nodes, ms in self.ms.items():
            row |= {f"ms_{nodes}": round(ms, 3), f"share_{nodes}": round(self.share[nodes], 4)}
        return row


def verification_costs(pair: Pair) -> list[VerificationCost]:
    """One row per verifier, scheme and vocabulary: median ms by drafted nodes, and its share of the pair's target step.

    The share at a large vocabulary is an upper bound: a target with such a vocabulary takes longer than this pair's.
    """
    sizes = ProfileConfig(contexts=(128,), widths=(1,), nodes=(0, *NODES), repeats=REPEATS)
    table = measure(pair, sizes)
    steps = {nodes: table.step_ms([], nodes, batch=1, context=128) for nodes in NODES}
    rows = []
    for vocabulary_size in (pair.target.vocabulary_size, LARGE_VOCABULARY):
        for verifier, scheme in track([("walk", FIXED.name), *verifier_grids()], f"verify: {vocabulary_size} tokens"):
            chosen = [nodes for nodes in NODES if verifier not in CHAIN_VERIFIERS or nodes <= MOST_CHAIN]
            ms = {nodes: _median_ms(verifier, scheme, nodes, vocabulary_size) for nodes in chosen}
            share = {nodes: ms[nodes] / steps[nodes] for nodes in chosen}
            rows.append(VerificationCost(verifier, scheme, vocabulary_size, ms, share))
    return rows


def print_costs(costs: Sequence[VerificationCost]) -> None:
    """The table of `verification_costs`."""
    shown = [
        {"verifier": cost.verifier, "scheme": cost.scheme, "vocabulary": cost.vocabulary}
        | {
            f"{nodes} nodes": f"{cost.ms[nodes]:.2f} ms ({cost.share[nodes]:.1%})" if nodes in cost.ms else "-"
            for nodes in NODES
        }
        for cost in costs
    ]
    print_table("Verification by itself, and as a share of the target's step over as many nodes", shown)


def _median_ms(verifier_name: str, scheme: str, num_nodes: int, vocabulary_size: int) -> float:
    verifier = get_verifier(verifier_name)
    times = []
    for drafted in _trees(verifier.terms, scheme, num_nodes, vocabulary_size):
        start = perf_counter()
        verifier.verify(*drafted, np.zeros(1, dtype=np.int64))
        times.append((perf_counter() - start) * 1e3)
    return median(times[1:])


def _trees(
    verifier: VerifierTerms, scheme: str, num_nodes: int, vocabulary_size: int
) -> Iterator[tuple[DraftTree, Tensor, list[dict[int, Tensor]], TokenSampler]]:
    """Trees of `num_nodes` drafted tokens at most, equal draws merged, with the target's logits [1, N, V] and the other
    arguments of a verification; the first is for warming up."""
    generator = torch.Generator().manual_seed(0)
    draft = SPREAD * torch.randn(num_nodes + 1, vocabulary_size, generator=generator)
    target = draft + DISAGREEMENT * torch.randn(draft.shape, generator=generator)
    log_probs = draft.log_softmax(-1)
    for seed in range(REPEATS + 1):
        sampler = TokenSampler([Sampling(seed=seed)], vocabulary_size, torch.device("cpu"))
        if scheme == FIXED.name:
            tree, draft_rows = _best_tokens(log_probs, num_nodes), [{}]
        else:
            num_paths = 1 if verifier.name in CHAIN_VERIFIERS else NUM_PATHS
            tree, draft_rows = _drawn(SAMPLED_SCHEMES[scheme], num_paths, num_nodes, log_probs, sampler)
        yield tree, target[None, : tree.tokens.shape[1]], draft_rows, sampler


def _drawn(
    scheme: Scheme, num_paths: int, num_nodes: int, log_probs: Tensor, sampler: TokenSampler
) -> tuple[DraftTree, list[dict[int, Tensor]]]:
    """A tree that draws at node n from row n of `log_probs` [N, V]."""
    length = num_nodes // num_paths
    policy = sampled_shape(scheme, num_paths, *((length, 0) if scheme == HYBRID else (0, length)))
    roots = np.zeros(1, dtype=np.int64)
    tree, draft_rows = DraftTree.from_roots(roots), {}
    context = StepContext(
        positions=roots,
        remaining=np.full(1, MOST_CHAIN + 1),
        temperatures=sampler.temperatures,
        top_ps=sampler.top_ps,
        history=START[None],
    )
    step = policy.begin(context)
    while (frontier := step.frontier(tree)).shape[1]:
        rows = log_probs[np.maximum(frontier, 0)]
        tree, of_level = append_draws(tree, frontier, rows, scheme, sampler, roots)
        draft_rows |= of_level[0]
    return tree, [draft_rows]


def _best_tokens(log_probs: Tensor, num_nodes: int) -> DraftTree:
    """Of each node the `NUM_PATHS` best tokens, level by level."""
    tree = DraftTree.from_roots(np.zeros(1, dtype=np.int64))
    for node in range(num_nodes // NUM_PATHS):
        best = log_probs[node].topk(NUM_PATHS)
        numbers = best.values.numpy()[None, None]
        children = Children(best.indices.numpy()[None, None], numbers, numbers, numbers[:, :, 0], numbers[:, :, 0])
        tree = tree.extend(np.full((1, 1), node), children)
    return tree
