"""Envelopes: at each position of a text, a tree so large that it contains the tree of every policy.

Replay needs the drafted trees of policies that were never run. Only the drafter can compute their nodes,
so each envelope is grown once, level by level, and stored. The roots of a text share one slot of the drafter's cache:
the text is the trunk, and each tree is appended at its root's token, under one mask. A memory of the drafter's errors
is that of the tree's own root.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ...controller.contract import COUPLED, RANKED_SCHEMES, Scheme
from ...controller.errors import InputError
from ...controller.ranges import require_at_least, require_some
from ...controller.trees.children import Children
from ...controller.trees.numbers import NodeNumbers
from ...controller.trees.tree import LINKS, Array, DraftTree
from ...runtime.drafters.errors import Rows
from ...runtime.drafters.ngrams.model import NgramModel
from ...runtime.drafters.ngrams.proposals import NodeNgrams
from ...runtime.engines.base import CachedModel, append_text
from ...runtime.machine.transfer import to_device
from ...runtime.sampling import TokenSampler
from ...runtime.schemes.ranked import Expected, propose
from ..text import sampling_of
from ..trace.schema import EnvelopeRow, TextRow
from .rows import TextMemory, keep_states

# Roots that share the forwards of a level. Each further root widens the mask of all of them.
ROOTS_AT_ONCE = 16


@dataclass(frozen=True)
class EnvelopeConfig:
    """The trees recorded for replay."""

    texts: int = 0
    """Texts recorded with an envelope at every position, chosen at random from all of them; 0 for none"""
    max_depth: int = 8
    """Levels of an envelope"""
    frontier: int = 12
    """Nodes expanded per level, the likeliest first; a policy may expand fewer, and rarely others"""
    schemes: tuple[str, ...] = ("coupled", "fixed")
    """Drafting schemes to grow them under; greedy text needs one, because without noise all schemes are the same"""

    def __post_init__(self) -> None:
        require_at_least("envelopes.texts", self.texts, 0)
        require_at_least("envelopes.max_depth", self.max_depth, 1)
        require_at_least("envelopes.frontier", self.frontier, 1)
        require_some("envelopes.schemes", self.schemes)
        if not set(self.schemes) <= RANKED_SCHEMES.keys() or len(set(self.schemes)) < len(self.schemes):
            raise InputError(
                f"envelopes.schemes are some of {', '.join(RANKED_SCHEMES)}, each once, got {list(self.schemes)}"
            )


@torch.inference_mode()
def grow_envelopes(
    drafter: CachedModel,
    text: TextRow,
    scheme: Scheme,
    width: int,
    config: EnvelopeConfig,
    memory: TextMemory | None = None,
) -> list[EnvelopeRow]:
    """One row per root, from the prompt's last token on; with a `memory` of the drafter's errors in the text.

    A root too close to the end of the text for a draft to be of use has no envelope.
    """
    last = len(text.tokens) - 2
    roots = np.arange(text.prompt_length - 1, last)
    rows = []
    count = _roots_at_once(drafter, config)
    for start in range(0, len(roots), count):
        chosen = roots[start : start + count]
        grove = _Grove(drafter, text, chosen, scheme, width, config, memory)
        rows += grove.grow(np.minimum(config.max_depth, last - chosen))
    return rows


def _roots_at_once(drafter: CachedModel, config: EnvelopeConfig) -> int:
    """As many as share the forwards of a level; fewer where the engine bounds the leaves of their trees."""
    drafter.open(1, 0)
    if drafter.max_leaves is None:
        return ROOTS_AT_ONCE
    leaves = 1 + max(0, config.max_depth - 1) * (config.frontier - 1)  # of the expanded nodes, behind each root
    if leaves >= drafter.max_leaves:
        raise InputError(
            f"envelopes of {config.max_depth} levels of {config.frontier} nodes may have {leaves} leaves, and the "
            f"drafter's engine holds {drafter.max_leaves}; lower envelopes.frontier or max_depth"
        )
    return min(ROOTS_AT_ONCE, (drafter.max_leaves - 1) // leaves)


class _Grove:
    """The envelopes of a few neighbouring roots, as a batch of draft trees over one cache slot."""

    def __init__(
        self,
        drafter: CachedModel,
        text: TextRow,
        roots: Array,
        scheme: Scheme,
        width: int,
        config: EnvelopeConfig,
        memory: TextMemory | None,
    ):
        tokens, first = np.array(text.tokens[: roots[-1] + 1], dtype=np.int64), text.prompt_length - 1
        self._drafter, self._text, self._scheme = drafter, text, scheme
        self._sampler = TokenSampler([sampling_of(text)], drafter.vocabulary_size, drafter.device)
        self._roots, self._width, self._frontier = roots, width, config.frontier
        self._known = None if memory is None else memory.before(roots)
        keep_states(drafter, memory is not None)
        capacity = len(tokens) + len(roots) * config.frontier * config.max_depth
        drafter.open(1, capacity + 256)
        append_text(drafter, 0, tokens[:first])
        block = tokens[None, first:]
        rows = np.arange(block.shape[1])[None]
        read = self._read(block, first + rows, rows - 1)
        self._root_rows = Rows(*(column[roots - first][:, None] for column in read))  # [R, 1, ...]
        self._num_rows = block.shape[1]  # of the text, then of the drafted nodes
        self._rows: Array = (roots - first)[:, None]  # [R, N] cache row of each node, -1 where it was not expanded
        self._tree = DraftTree.from_roots(tokens[roots])
        self._ngrams = [NgramModel(tokens[: root + 1].tolist()) for root in roots.tolist()]
        self._expanded: list[list[int]] = [[] for _ in roots]

    def grow(self, depth_limits: Array) -> list[EnvelopeRow]:
        frontier = np.where(depth_limits > 0, 0, -1)[:, None]
        level = 0
        while (frontier >= 0).any():
            for row, nodes in enumerate(frontier.tolist()):
                self._expanded[row] += [node for node in nodes if node >= 0]
            rows = self._root_rows if level == 0 else self._forward(frontier)
            logits = rows.logits if self._known is None else self._known.corrected(*rows)
            self._tree = self._tree.extend(frontier, self._propose(logits, frontier, self._roots + level + 1))
            level += 1
            frontier = self._next_frontier(level, depth_limits)
        return [self._row(number) for number in range(len(self._roots))]

    def _next_frontier(self, level: int, depth_limits: Array) -> Array:
        """[R, F]: the likeliest nodes of the deepest level, by drafter or n-grams, -1 where a tree has fewer or ends
        here."""
        tree = self._tree
        open_nodes = (tree.depths == level) & (depth_limits > level)[:, None]
        likeliest = tree.path_sums(np.maximum(tree.noisy_log_probs, tree.ngram_log_probs))
        values = np.where(open_nodes, likeliest, -np.inf)
        order = np.argsort(-values, axis=1, kind="stable")[:, : self._frontier]
        return np.where(np.take_along_axis(open_nodes, order, axis=1), order, -1)

    def _forward(self, frontier: Array) -> Rows:
        """[R, F, ...] rows of the frontier nodes, all from one forward of the one slot."""
        tree, (trees, slots) = self._tree, np.nonzero(frontier >= 0)
        nodes = frontier[trees, slots]
        known = np.full(tree.tokens.shape, -1)
        known[:, : self._rows.shape[1]] = self._rows
        parents = known[trees, tree.parents[trees, nodes]]
        positions = self._roots[trees] + tree.depths[trees, nodes]
        read = self._read(tree.tokens[trees, nodes][None], positions[None], parents[None])
        known[trees, nodes] = self._num_rows + np.arange(len(nodes))
        self._rows, self._num_rows = known, self._num_rows + len(nodes)
        spread = Rows(*(column.new_zeros((*frontier.shape, column.shape[-1])) for column in read))
        for there, column in zip(spread, read, strict=True):
            there[torch.from_numpy(trees), torch.from_numpy(slots)] = column
        return spread

    def _read(self, tokens: Array, positions: Array, parents: Array) -> Rows:
        """[n, ...] rows of one forward, of [1, n] tokens; without states where nothing is remembered."""
        logits = self._drafter.forward(tokens, positions, parents)[0]
        if self._known is None or self._drafter.hidden is None:
            return Rows(logits, logits[:, :0])
        return Rows(logits, self._drafter.hidden[0])

    def _propose(self, logits: torch.Tensor, frontier: Array, positions: Array) -> Children:
        noise = (
            self._sampler.noise(to_device(positions[None], self._drafter.device)) if self._scheme is COUPLED else None
        )
        shared = None if noise is None else noise[0][:, None]  # [R, 1, V]: the nodes of a level share a position
        ngrams = NodeNgrams(self._ngrams, self._tree, frontier)
        expected = Expected.of(ngrams, self._width, logits.device)
        return propose(self._sampler.warp(logits[None])[0], shared, self._width, expected)

    def _row(self, number: int) -> EnvelopeRow:
        names = [name for name in EnvelopeRow._fields if name in (*LINKS, *NodeNumbers._fields)]
        count = int(self._tree.num_nodes[number])
        return EnvelopeRow(
            text_id=self._text.text_id,
            document=self._text.document,
            position=int(self._roots[number]),
            scheme=self._scheme.name,
            expanded=self._expanded[number],
            **{name: getattr(self._tree, name)[number, :count].tolist() for name in names},
        )
