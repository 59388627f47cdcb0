"""A memory of the drafter's errors: what the target's rows said at committed positions corrects later drafts.

At a committed position i the drafter had the hidden state h_i (normalised here) and the probabilities q_i, the target
p_i. To the drafter's logits at a node with state h is added

    eta sum_i k_i (p_i - q_i) / (mass + sum_i k_i),  k_i = exp(beta (h . h_i - 1)).

Without the denominator it would be a gradient step on the drafter's output layer for each position (dynamic
evaluation, arXiv:1709.07432), in the dual form and with a kernel for the inner product; with it, a text that repeats
itself does not move the logits ever further, and few or unlike positions move them little. Of p_i - q_i the largest
entries are kept.

Only positions before the step's root count, so the memory is a function of the text up to there and stays the same
within a step, whatever was drafted and refused. The walk is exact for any tree; the verifiers of sampled trees are
handed the corrected rows, which are fixed before anything is drawn from them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...controller.memory import MemoryConfig
from ...controller.trees.tree import Array
from ..engines.base import CachedModel
from ..machine.transfer import to_device
from ..sampling import TokenSampler
from ..target import Target


class Rows(NamedTuple):
    """The drafter's rows at n tokens of a text."""

    logits: Tensor  # [n, V]
    states: Tensor  # [n, H]


class Errors(NamedTuple):
    """What is remembered of n positions of a text, or of those of each of B texts, [B, n, ...]."""

    states: Tensor  # [n, H] of the drafter, normalised
    tokens: Tensor  # [n, E] int64, where target and drafter differ most
    amounts: Tensor  # [n, E] by how much: target less drafter probability

    @classmethod
    def of(cls, states: Tensor, target_probs: Tensor, draft_probs: Tensor, entries: int) -> Self:
        """Of drafter states [n, H], normalised or not, and the probabilities [n, V] of both models."""
        amounts = target_probs - draft_probs
        tokens = amounts.abs().topk(min(entries, amounts.shape[-1]), sorted=False).indices
        return cls(normalize(states.to(amounts.dtype), dim=-1), tokens, amounts.gather(-1, tokens))

    def corrected(self, config: MemoryConfig, logits: Tensor, states: Tensor, unused: Tensor | None = None) -> Tensor:
        """[B, F, V] for the drafter's `logits` and `states` [B, F, H], by those of B texts but for the positions that
        are `unused` [B, 1, n] bool."""
        likeness = normalize(states.to(self.states.dtype), dim=-1) @ self.states.mT  # [B, F, n]
        weights = likeness.sub_(1.0).mul_(config.beta).exp_()
        if unused is not None:
            weights.masked_fill_(unused, 0.0)
        weights.mul_(config.eta / (weights.sum(-1, keepdim=True).add_(config.mass)))
        moved = (weights[..., None] * self.amounts[:, None]).flatten(2)
        at = self.tokens.flatten(1)[:, None].expand_as(moved)
        return logits.to(moved.dtype).scatter_add(-1, at, moved)


class ErrorMemory:
    """Of each slot, what was remembered at its last `window` positions; a ring."""

    def __init__(self, config: MemoryConfig, target: Target):
        assert 0 < config.window <= target.num_kept
        self._config = config
        self._target = target
        self.open()

    @property
    def num_noted(self) -> int:
        """How many of the last tokens of a text the drafter's rows are needed of."""
        return self._config.window + 1  # what the target says behind the root is not known yet

    def open(self) -> None:
        self._read: list[list[Rows]] = []  # of each slot, rows of committed tokens that are not remembered yet
        self._levels: list[Rows] = []  # [B, F, ...] of this step's trees
        self._roots = torch.empty(0)  # [B, 1, H] states
        self._counts: list[int] = []  # positions remembered so far, those that were forgotten since included
        self._rings: Errors | None = None  # of S texts, [S, window, ...]; made once their sizes are known
        self._unused: Tensor | None = None  # [B, 1, positions] bool, where this step's texts remember unequally many

    def join(self) -> None:
        self._read.append([])
        self._counts.append(0)
        if self._rings is not None:
            self._rings = Errors(*(torch.cat((ring, ring.new_zeros((1, *ring.shape[1:])))) for ring in self._rings))

    def keep(self, slots: Sequence[int]) -> None:
        self._read = [self._read[slot] for slot in slots]
        self._counts = [self._counts[slot] for slot in slots]
        if self._rings is not None:
            there = to_device(np.array(slots, dtype=np.int64), self._rings.states.device)
            self._rings = Errors(*(ring.index_select(0, there) for ring in self._rings))

    def note(self, slot: int, logits: Tensor, states: Tensor | None) -> None:
        """The drafter has read committed tokens of a slot, the next in its text."""
        assert states is not None, "the drafter's model keeps no hidden states"
        self._read[slot].append(Rows(logits.clone(), states.clone()))

    def begin(self, drafting: Array, sampler: TokenSampler) -> None:
        """Begin a step of trees of which those are `drafting` [B] whose texts the drafter has read up to the root."""
        self._levels = []
        slots = np.nonzero(drafting)[0].tolist()
        for slot in slots:
            self._read[slot] = [Rows(*map(torch.cat, zip(*self._read[slot], strict=True)))]
        self._remember(slots, sampler)
        last = {slot: self._read[slot][0].states[-1] for slot in slots}
        none = torch.zeros_like(last[slots[0]])
        self._roots = torch.stack([last.get(slot, none) for slot in range(len(drafting))])[:, None]
        used = np.minimum(self._counts[: len(drafting)], self._config.window)[:, None]
        is_unused = np.arange(used.max()) >= used
        self._unused = to_device(is_unused[:, None], none.device) if is_unused.any() else None

    def _remember(self, slots: Sequence[int], sampler: TokenSampler) -> None:
        """What both models have said behind the tokens before the roots of these slots."""
        new: list[tuple[int, int]] = []  # slot, number of positions
        ours, theirs, states = [], [], []
        for slot in slots:
            (rows,), target_rows = self._read[slot], self._target.take_logits(slot)
            # Either may have dropped more of the oldest ones; both end before the root.
            count = 0 if target_rows is None else min(len(target_rows), len(rows.logits) - 1, self._config.window)
            if target_rows is not None and count:
                ours.append(temperature_probs(rows.logits[-1 - count : -1], sampler, slot))
                theirs.append(temperature_probs(target_rows[-count:], sampler, slot))
                states.append(rows.states[-1 - count : -1])
                new.append((slot, count))
            self._read[slot] = [Rows(rows.logits[-1:], rows.states[-1:])]
        if not new:
            return
        errors = Errors.of(torch.cat(states), torch.cat(theirs), torch.cat(ours), self._config.entries)
        if self._rings is None:
            shape = len(self._counts), self._config.window
            self._rings = Errors(*(column.new_zeros((*shape, column.shape[-1])) for column in errors))
        for ring, column in zip(self._rings, errors, strict=True):
            for (slot, _), part in zip(new, column.split([count for _, count in new]), strict=True):
                _write(ring[slot], self._counts[slot], part)
        for slot, count in new:
            self._counts[slot] += count

    def corrected_roots(self, logits: Tensor) -> Tensor:
        """[B, 1, V] for the drafter's `logits` after the roots."""
        return self._corrected(logits, self._roots)

    def corrected_level(self, logits: Tensor, states: Tensor) -> Tensor:
        """[B, F, V] for the drafter's `logits` and `states` [B, F, H] at the nodes of this step's next level."""
        self._levels.append(Rows(logits.clone(), states))
        return self._corrected(logits, states)

    def _corrected(self, logits: Tensor, states: Tensor) -> Tensor:
        num_trees, size = len(logits), min(max(self._counts[: len(logits)]), self._config.window)
        if self._rings is None or not size:
            return logits
        known = Errors(*(ring[:num_trees, :size] for ring in self._rings))
        return known.corrected(self._config, logits, states, self._unused)

    def commit(self, path_rows: Array) -> None:
        """The texts continue along nodes that are the rows `path_rows` ([B, A], -1 where a node was not expanded) of
        this step's levels, one after another."""
        first = np.cumsum([0, *(level.logits.shape[1] for level in self._levels)])
        for slot, of_slot in enumerate(path_rows):
            for row in of_slot[of_slot >= 0].tolist():
                number = int(np.searchsorted(first, row, side="right")) - 1
                level, entry = self._levels[number], row - int(first[number])
                self._read[slot].append(Rows(level.logits[slot, entry, None], level.states[slot, entry, None]))
        self._levels = []


def remembering(
    model: CachedModel, config: MemoryConfig | None, hidden_layers: tuple[int, ...] = ()
) -> tuple[Target, ErrorMemory | None]:
    """The target of a loop, and the memory that learns from it, if there is to be one."""
    target = Target(model, hidden_layers, 0 if config is None else config.window)
    return target, None if config is None else ErrorMemory(config, target)


def temperature_probs(logits: Tensor, sampler: TokenSampler, slot: int) -> Tensor:
    """[n, V] at the temperature of a text, 1 where it is greedy, neither cut nor processed; of `logits` [n, V]."""
    sampling = sampler.samplings[slot]
    rows = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    scale = 1.0 if sampling.is_greedy else sampling.temperature
    return (rows[:, : sampler.vocabulary_size] / scale).softmax(-1)


def _write(ring: Tensor, first: int, rows: Tensor) -> None:
    """Put `rows` [n <= window, ...] into a ring [window, ...] of which `first` rows were written before."""
    start = first % len(ring)
    before_end = rows[: len(ring) - start]
    ring[start : start + len(before_end)] = before_end
    ring[: len(rows) - len(before_end)] = rows[len(before_end) :]
