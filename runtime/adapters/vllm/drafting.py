"""One step's trees: grown level by level as the policy asks, pruned, and remembered until vLLM has verified them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ....controller.context import StepContext
from ....controller.policies.base import Step
from ....controller.trees.tree import Array, DraftTree
from ...drafters.ngrams.proposals import NodeNgrams
from ...schemes.ranked import draft
from .forest import Branches, first_path
from .policy import Shaping
from .slots import DraftSlots, Outcome
from .texts import Drafting, Text


@dataclass(frozen=True)
class Drafted:
    """The trees of all slots, from their drafting to their verdict."""

    ids: list[str]
    step: Step
    tree: DraftTree  # the candidates, over-grown
    kept: DraftTree
    nodes: Array  # [S, K] the nodes of `tree` that were kept
    widths: list[int]  # nodes expanded by each level
    branches: dict[str, Branches]  # of those that drafted anything


class Growth:
    """The trees of a step while they grow."""

    def __init__(self, shaping: Shaping, slots: DraftSlots, context: StepContext, roots: Array):
        self.shaping, self.slots = shaping, slots
        self.tree = DraftTree.from_roots(roots)
        self.widths: list[int] = []
        self._context = context
        self._step = shaping.policy.begin(context)

    def frontier(self) -> Array:
        """[S, F]: what to expand next, F = 0 for nothing."""
        nodes = self._step.frontier(self.tree)
        if nodes.shape[1]:
            self.widths.append(max(len({*row} - {-1}) for row in nodes.tolist()))
        return nodes

    def expand(self, frontier: Array, logits: Tensor) -> None:
        """Draft under the nodes of `frontier` [S, 1], all of the deepest level, by the drafter's `logits` [S, 1, V]."""
        shaping, slots = self.shaping, self.slots
        ngrams = NodeNgrams(slots.ngrams, self.tree, frontier) if slots.ngrams else None
        positions = self._context.positions + self.tree.deepest + 1
        width = shaping.policy.limits.width
        children = draft(shaping.scheme, logits, positions, width, slots.sampler, ngrams)
        self.tree = self.tree.extend(frontier, children)

    def close(self, texts: Mapping[str, Text]) -> Drafted:
        """Prune; a request that may only draft a chain keeps the first path."""
        nodes = np.zeros((len(self.tree.tokens), 1), dtype=np.int64)
        if self.tree.deepest:
            nodes = self._step.keep(self.tree)
            for row, request_id in enumerate(self.slots.ids):
                if texts[request_id].drafting is Drafting.CHAIN:
                    path = first_path(self.tree, nodes, row)
                    nodes[row] = [*path, *[-1] * (nodes.shape[1] - len(path))]
        kept = self.tree.subtree(nodes)
        branches = {each: Branches.of(kept, row) for row, each in enumerate(self.slots.ids)}
        return Drafted(list(self.slots.ids), self._step, self.tree, kept, nodes, self.widths, branches)


def settle(drafted: Drafted, outcomes: Mapping[str, Outcome]) -> None:
    """Tell the policy what the trees brought, where all of them were verified."""
    if all(request_id in outcomes for request_id in drafted.ids):
        accepted = [np.isin(nodes, outcomes[each].path) for each, nodes in zip(drafted.ids, drafted.nodes, strict=True)]
        path = np.full((len(accepted), max(row.sum() for row in accepted)), -1)
        for row, kept in enumerate(accepted):
            path[row, : kept.sum()] = np.nonzero(kept)[0]
        drafted.step.record(drafted.kept, drafted.widths, path)
