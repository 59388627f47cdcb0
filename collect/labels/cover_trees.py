"""Traversal's labels: trees drafted behind a recorded text, large enough to label every smaller one.

For each trunk length L1 a tree of 4 i.i.d. branches of 8 tokens is drafted. The chance that Traversal accepts a node
looks only at the node's ancestors and at paths before its own, so the sums over the nodes of the first K paths down to
depth L1 + L2 are the expected accepted lengths of all (K, L1, L2) given the draws (see `tree_estimates`).

The trees of neighbouring roots share the text in one slot of each model's cache.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...controller.context import StepContext
from ...controller.contract import IID_PATHS
from ...controller.errors import InputError
from ...controller.learned.history import START
from ...controller.policies.delayed import SampledShape, delayed_tree
from ...controller.trees.delayed import DEEPEST, LONGEST_BRANCH, LONGEST_TRUNK, MOST_PATHS
from ...controller.trees.tree import Array, DraftTree
from ...runtime.drafters.language_model import distinct
from ...runtime.engines.base import CHUNK, CachedModel, append_text
from ...runtime.sampling import TokenSampler
from ...runtime.schemes.sampled import append_draws
from ...runtime.verification.sampled_tree import SampledTree
from ...runtime.verification.tree_estimates import first_paths, traversal_chances
from ..text import sampling_of
from ..trace.schema import TextRow
from .positions import OTHER_CHOICES

ROOTS_AT_ONCE = 8
# A step's draws behind a text never repeat those of labels: these choices lie beyond those of `label_text`.
TREE_CHOICES = OTHER_CHOICES + (1 << 30)


def traversal_labels(
    target: CachedModel, drafter: CachedModel, text: TextRow, *, every: int, num_trees: int
) -> dict[int, Array]:
    """By root, [3, 9, 8] mean accepted lengths of K = 2, 3, 4, L1 = 0 ... 8, L2 = 1 ... 8 over `num_trees` trees each.

    Every so many tokens of the text there is a root, from the prompt's last token on.
    """
    if num_trees == 0:
        return {}
    roots = np.arange(text.prompt_length - 1, len(text.tokens) - 1, every)
    drafting, verifying = (Grove(model, text, ROOTS_AT_ONCE * num_trees) for model in (drafter, target))
    labels: dict[int, Array] = {}
    for start in range(0, len(roots), ROOTS_AT_ONCE):
        chosen = roots[start : start + ROOTS_AT_ONCE]
        lengths = [
            drafted_lengths(drafting, verifying, text, chosen, trunk_length, num_trees)
            for trunk_length in range(LONGEST_TRUNK + 1)
        ]
        labels |= dict(zip(chosen.tolist(), np.stack(lengths, axis=2), strict=True))
    return labels


def drafted_lengths(
    drafter: "Grove", target: "Grove", text: TextRow, roots: Array, trunk_length: int, num_trees: int
) -> Array:
    """[R, 3, 8] of K = 2, 3, 4 and L2 = 1 ... 8 behind trunks of one length."""
    sampling = sampling_of(text)
    choices = [replace(sampling, choice=TREE_CHOICES + number) for number in range(num_trees)]
    sampler = TokenSampler(choices * len(roots), drafter.model.vocabulary_size, drafter.model.device)
    shape = delayed_tree(MOST_PATHS, trunk_length, LONGEST_BRANCH)
    all_roots = np.repeat(roots, num_trees)
    tree, draft_rows = _drafted(drafter, shape, all_roots, sampler)
    target.plant(all_roots)
    inner = [sorted(rows) for rows in draft_rows]
    nodes = np.full((len(inner), max(map(len, inner))), -1)
    for slot, of_tree in enumerate(inner):
        nodes[slot, : len(of_tree)] = of_tree
    log_probs = sampler.log_probs(target.read(tree, nodes))
    lengths = np.zeros((len(inner), MOST_PATHS - 1, LONGEST_BRANCH))
    for slot, of_tree in enumerate(inner):
        target_rows = dict(zip(of_tree, log_probs[slot].double().exp(), strict=False))
        rows = {node: row.double() for node, row in draft_rows[slot].items()}
        view = SampledTree(tree, slot, target_rows.__getitem__, rows)
        lengths[slot] = _smaller_trees(view, tree, slot, trunk_length)
    return lengths.reshape(len(roots), num_trees, *lengths.shape[1:]).mean(axis=1)


def _drafted(
    drafter: "Grove", shape: SampledShape, roots: Array, sampler: TokenSampler
) -> tuple[DraftTree, list[dict[int, Tensor]]]:
    """Trees at `roots` [B], and per tree the row that each inner node was drawn from."""
    drafter.plant(roots)
    tree = DraftTree.from_roots(drafter.tokens[roots])
    rows: list[dict[int, Tensor]] = [{} for _ in roots]
    context = _endless(roots)
    while (frontier := shape.frontier(tree, context)).shape[1]:
        nodes, entries = distinct(frontier)
        log_probs = sampler.log_probs(drafter.read(tree, nodes))
        picked = log_probs[torch.arange(len(roots))[:, None], torch.from_numpy(entries)]
        tree, drawn_from = append_draws(tree, frontier, picked, IID_PATHS, sampler, roots)
        for known, new in zip(rows, drawn_from, strict=True):
            known.update(new)
    return tree, rows


def _endless(roots: Array) -> StepContext:
    """Of texts that go on behind every draft."""
    unread = np.zeros(len(roots), dtype=np.float32)
    return StepContext(roots, np.full(len(roots), 2 * DEEPEST), unread, unread, np.tile(START, (len(roots), 1)))


def _smaller_trees(view: SampledTree, tree: DraftTree, slot: int, trunk_length: int) -> Array:
    """[3, 8] accepted lengths of the tree's parts of K = 2, 3, 4 paths with branches of 1 ... 8 tokens."""
    assert tree.paths is not None
    chances = np.array(traversal_chances(view)[1:])
    first = np.array(first_paths(view, tree.paths[slot])[1:])
    depths = tree.depths[slot, 1 : view.num_nodes]
    paths, branches = np.arange(2, MOST_PATHS + 1), np.arange(1, LONGEST_BRANCH + 1)
    within = (first < paths[:, None, None]) & (depths <= trunk_length + branches[:, None])
    return (within * chances).sum(axis=2)


class Grove:
    """One model over the trees of neighbouring roots of a text, in one slot of its cache."""

    def __init__(self, model: CachedModel, text: TextRow, num_trees: int):
        self.model = model
        self.tokens = np.array(text.tokens, dtype=np.int64)
        rows_of_tree = LONGEST_TRUNK + MOST_PATHS * LONGEST_BRANCH
        model.open(1, 2 * len(self.tokens) + CHUNK + num_trees * rows_of_tree)
        if model.max_leaves is not None:
            raise InputError(
                "labels of Traversal need an engine that reads trees of any number of leaves, and this one holds "
                f"{model.max_leaves}; set shapes.trees to 0, or collect with the transformers engine"
            )

    def plant(self, roots: Array) -> None:
        """Forget the trees before, and begin new ones at `roots` [B], ascending."""
        self.model.commit(np.zeros((1, 0), dtype=np.int64))
        first, last = int(roots[0]), int(roots[-1])
        append_text(self.model, 0, self.tokens[int(self.model.lengths[0]) : first])
        block = self.tokens[None, first : last + 1]
        places = np.arange(block.shape[1])[None]
        logits = self.model.forward(block, first + places, places - 1)
        self._roots = roots
        self._root_logits = logits[0, roots - first].clone()  # [B, V]
        self._rows: Array = (roots - first)[:, None]  # [B, N] cache row of each node, -1 where it has none
        self._num_rows = block.shape[1]

    def read(self, tree: DraftTree, nodes: Array) -> Tensor:
        """[B, F, V] logits of `nodes` [B, F], -1 where a tree has fewer: the root, or nodes without a row yet that are
        ascending in each tree and whose parents have one, or come before them."""
        known = np.full(tree.tokens.shape, -1)
        known[:, : self._rows.shape[1]] = self._rows
        trees, slots = np.nonzero(nodes > 0)
        chosen = nodes[trees, slots]
        known[trees, chosen] = self._num_rows + np.arange(len(chosen))
        logits = self._root_logits[:, None].repeat(1, nodes.shape[1], 1)
        if len(chosen):
            parents = known[trees, tree.parents[trees, chosen]]
            positions = self._roots[trees] + tree.depths[trees, chosen]
            rows = self.model.forward(tree.tokens[trees, chosen][None], positions[None], parents[None])[0]
            logits[torch.from_numpy(trees), torch.from_numpy(slots)] = rows
        self._rows, self._num_rows = known, self._num_rows + len(chosen)
        return logits
