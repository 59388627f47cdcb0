"""A memory of the drafter's errors: what the target's rows said at committed positions corrects later drafts.

Only positions before the step's root count, so the memory is a function of the text up to there and stays the same
within a step, whatever was drafted and refused. The walk is exact for any tree; the verifiers of sampled trees are
handed the corrected rows, which are fixed before anything is drawn from them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...controller.memory import MemoryConfig
from ...controller.trees.tree import Array
from ..engines.base import CachedModel
from ..machine.transfer import to_device
from ..sampling import TokenSampler
from ..target import Target
from .errors import Errors, KnownErrors, Rows, joined, scale_of, scaled_probs


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
        self._rings: KnownErrors | None = None  # of all S slots, [S, 1 + window, ...]; once their sizes are known
        self._nothing: KnownErrors | None = None  # a ring of one slot before anything is remembered
        self._known: KnownErrors | None = None  # what is remembered of this step's texts, if there is anything

    def join(self) -> None:
        self._read.append([])
        self._counts.append(0)
        if self._rings is not None:
            assert self._nothing is not None
            self._rings = KnownErrors(*map(torch.cat, zip(self._rings, self._nothing, strict=True)))

    def keep(self, slots: Sequence[int]) -> None:
        self._read = [self._read[slot] for slot in slots]
        self._counts = [self._counts[slot] for slot in slots]
        if self._rings is not None:
            there = to_device(np.array(slots, dtype=np.int64), self._rings.keys.device)
            self._rings = KnownErrors(*(ring.index_select(0, there) for ring in self._rings))

    def note(self, slot: int, logits: Tensor, states: Tensor | None) -> None:
        """The drafter has read committed tokens of a slot, the next in its text."""
        assert states is not None, "the drafter's model keeps no hidden states"
        self._read[slot].append(Rows(logits.clone(), states.clone()))

    def begin(self, drafting: Array, sampler: TokenSampler) -> None:
        """Begin a step of trees of which those are `drafting` [B] whose texts the drafter has read up to the root."""
        self._levels = []
        slots = np.nonzero(drafting)[0].tolist()
        self._remember(slots, sampler)
        # Of a tree that is not drafted nothing is asked, so its root may be any.
        last = [self._read[slot if drafting[slot] else slots[0]][0].states for slot in range(len(drafting))]
        self._roots = joined(last)[:, None]
        size = min(max(self._counts[: len(drafting)]), self._config.window)
        self._known = None if self._rings is None or not size else self._first(self._rings, len(drafting), size)

    def _first(self, rings: KnownErrors, num_slots: int, size: int) -> KnownErrors:
        """The first `size` positions of the rings of the first slots."""
        if num_slots == len(rings.keys) and size == self._config.window:
            return rings
        num_entries = rings.moves.shape[-1]
        return KnownErrors(
            rings.keys[:num_slots, : 1 + size],
            rings.biases[:num_slots, :, : 1 + size],
            rings.tokens[:num_slots, :, : (1 + size) * num_entries],
            rings.moves[:num_slots, :, : 1 + size],
        )

    def _remember(self, slots: Sequence[int], sampler: TokenSampler) -> None:
        """What both models have said behind the tokens before the roots of these slots."""
        new: list[tuple[int, int]] = []  # slot, number of positions
        ours: list[Rows] = []
        theirs: list[Tensor] = []
        for slot in slots:
            rows, target_rows = Rows.joined(self._read[slot]), self._target.take_logits(slot)
            # Either may have dropped more of the oldest ones; both end before the root.
            before = len(rows.logits) - 1
            count = 0 if target_rows is None else min(len(target_rows), before, self._config.window)
            if target_rows is not None and count:
                ours.append(Rows(*(column[before - count : before] for column in rows)))
                theirs.append(target_rows if count == len(target_rows) else target_rows[-count:])
                new.append((slot, count))
            self._read[slot] = [Rows(*(column[before:] for column in rows))]
        if new:
            logits, states = Rows.joined(ours)
            scales = _scales(new, sampler, states.device)
            target_probs, draft_probs = (
                scaled_probs(rows, scales, sampler.vocabulary_size) for rows in (joined(theirs), logits)
            )
            self._write(new, Errors.of(states, target_probs, draft_probs, self._config.entries))

    def _write(self, new: Sequence[tuple[int, int]], errors: Errors) -> None:
        """Put so many positions of each slot into its ring, in place of the oldest."""
        window, num_entries = self._config.window, errors.tokens.shape[-1]
        if self._rings is None:
            none = Errors(*(column.new_zeros((1, window, column.shape[-1])) for column in errors))
            unused = torch.ones((1, window), dtype=torch.bool, device=errors.states.device)
            self._nothing = KnownErrors.of(self._config, none, unused)
            self._rings = KnownErrors(*(torch.cat([column] * len(self._counts)) for column in self._nothing))
        is_full = all(self._counts[slot] >= window for slot, _ in new)
        places = []
        for slot, count in new:
            places.append(slot * (1 + window) + 1 + (self._counts[slot] + np.arange(count)) % window)
            self._counts[slot] += count
        there = to_device(np.concatenate(places), errors.states.device)
        keys, biases, tokens, moves = self._rings
        keys.view(-1, keys.shape[-1]).index_copy_(0, there, errors.states * self._config.beta)
        if not is_full:
            biases.view(-1).index_fill_(0, there, -self._config.beta)
        tokens.view(-1, num_entries).index_copy_(0, there, errors.tokens)
        moves.view(-1, num_entries).index_copy_(0, there, errors.amounts * self._config.eta)

    def corrected_roots(self, logits: Tensor) -> Tensor:
        """[B, 1, V] for the drafter's `logits` after the roots."""
        return logits if self._known is None else self._known.corrected(logits, self._roots)

    def corrected_level(self, logits: Tensor, states: Tensor) -> Tensor:
        """[B, F, V] for the drafter's `logits` and `states` [B, F, H] at the nodes of this step's next level."""
        self._levels.append(Rows(logits.clone(), states))
        return logits if self._known is None else self._known.corrected(logits, states)

    def commit(self, path_rows: Array) -> None:
        """The texts continue along nodes that are the rows `path_rows` ([B, A], -1 where a node was not expanded) of
        this step's levels, one after another."""
        levels, self._levels = self._levels, []
        if not path_rows.size or path_rows.max() < 0:
            return
        first = np.cumsum([0, *(level.logits.shape[1] for level in levels)])
        numbers = np.searchsorted(first, path_rows, side="right") - 1
        entries = path_rows - first[numbers]
        for slot, (of_slot, in_levels) in enumerate(zip(numbers.tolist(), entries.tolist(), strict=True)):
            for number, entry in zip(of_slot, in_levels, strict=True):
                if number >= 0:
                    level = levels[number]
                    self._read[slot].append(Rows(*(column[slot, entry : entry + 1] for column in level)))


def _scales(new: Sequence[tuple[int, int]], sampler: TokenSampler, device: torch.device) -> float | Tensor:
    """Temperatures of so many rows of each slot, one number where they are alike, else [n, 1]."""
    scales = [scale_of(sampler.samplings[slot]) for slot, _ in new]
    if len(set(scales)) == 1:
        return scales[0]
    return to_device(np.repeat(scales, [count for _, count in new])[:, None], device)


def remembering(
    model: CachedModel, config: MemoryConfig | None, hidden_layers: tuple[int, ...] = ()
) -> tuple[Target, ErrorMemory | None]:
    """The target of a loop, and the memory that learns from it, if there is to be one."""
    target = Target(model, hidden_layers, 0 if config is None else config.window)
    return target, None if config is None else ErrorMemory(config, target)
