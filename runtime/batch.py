"""The batch: texts that are decoded together, each in a slot of its own; they join and leave between two steps.

A step is: draft, select, verify, commit, for all slots at once. Slots in use are always the first ones. Behind them
stands at most one text whose prompt is still being read, a piece at every step, so that a long prompt does not hold up
the others; whoever else has joined waits for it. The last piece is read by the forward that scores the first tree. What
a text becomes does not depend on its neighbours: under the walk it is the plain text of its own seed, and other
verifiers draw their coins from it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..controller.context import StepContext
from ..controller.contract import WALK
from ..controller.policies.base import ShapePolicy
from ..controller.tree import DraftTree
from .backends.base import CHUNK
from .drafters.base import Drafter
from .history import TextHistory
from .request import Request
from .sampling import TokenSampler
from .stats import Clock, StepRecord
from .stopping import TextStream, emit
from .target import Target
from .verification.base import DraftRows, Verifier

# Prompt tokens read in a row where no text is held up by it.
FIRST_READ = 8 * CHUNK

Observer = Callable[[StepRecord], None]


class Loop(NamedTuple):
    """The parts of a decode loop. Without drafter and selector it is plain decoding: a tree of the root alone."""

    target: Target
    verifier: Verifier
    drafter: Drafter | None
    selector: ShapePolicy | None
    observer: Observer | None


class Batch:
    """The texts under way in a `Loop`; the loop's models hold the texts of one batch at a time."""

    def __init__(self, loop: Loop):
        self._loop = loop
        loop.target.open()
        if loop.drafter is not None:
            loop.drafter.open()
        model = loop.target.model
        self._sampler = TokenSampler([], model.vocabulary_size, model.device)
        self._history = TextHistory()
        self._streams: list[TextStream] = []
        self._roots = self._positions = np.zeros(0, dtype=np.int64)
        self._joining: deque[tuple[Request, TextStream]] = deque()
        self._is_reading = False  # the first of them has the slot behind those in use
        self._clock = Clock()

    def __len__(self) -> int:
        """Texts that have joined and not yet left."""
        return len(self._streams) + len(self._joining)

    def join(self, request: Request, stream: TextStream) -> None:
        """Decode `request` into `stream` from one of the next steps on, until the text has ended."""
        self._joining.append((request, stream))

    def leave(self, stream: TextStream) -> None:
        """Give up a text that has not ended."""
        if stream in self._streams:
            self._keep([other is not stream for other in self._streams])
            return
        place = next(place for place, (_, other) in enumerate(self._joining) if other is stream)
        del self._joining[place]
        if place == 0 and self._is_reading:
            self._is_reading = False
            self._rearrange(list(range(len(self._streams))))

    @torch.inference_mode()
    def step(self) -> StepRecord | None:
        """Read a piece of what joins, then decode one step of the others; None where there are no others yet."""
        clock = self._clock  # goes on through steps that only read
        clock.start()
        self._read_prompts()
        clock.charge("read")
        if not self._streams:
            return None
        self._clock = Clock()
        context = StepContext(
            positions=self._positions,
            remaining=np.array([stream.remaining for stream in self._streams]),
            temperatures=self._sampler.temperatures,
            top_ps=self._sampler.top_ps,
            history=self._history.values.astype(np.float32),
        )
        record = self._decode(context, clock)
        self._roots = record.verdict.next_tokens
        self._positions = self._positions + record.verdict.accepted_lengths + 1
        if self._loop.observer is not None:
            self._loop.observer(record)
        self._keep([stream.remaining > 0 for stream in self._streams])
        return record

    def _read_prompts(self) -> None:
        target, drafter = self._loop.target, self._loop.drafter
        # The ends of prompts are read with the first trees, unless the others' would be padded to them.
        together = CHUNK if target.model.packs or not self._streams else 0
        budget = CHUNK if self._streams else FIRST_READ
        while self._joining and budget > 0:
            request, stream = self._joining[0]
            slot = len(self._streams)
            if not self._is_reading:
                text = np.asarray(request.prompt_ids, dtype=np.int64)
                capacity = len(text) + request.max_tokens + max(self._most_rows, CHUNK)
                target.join(text, capacity)
                if drafter is not None:
                    drafter.join(text, capacity)
                self._is_reading = True
            to_read = max(0, target.num_unread(slot) - together)
            if to_read:
                target.read(slot, min(to_read, budget))
            if to_read <= budget:
                self._joining.popleft()
                self._is_reading = False
                self._begin(request, stream)
            budget -= to_read + min(target.num_unread(slot), together)

    @property
    def _most_rows(self) -> int:
        """Of the largest tree."""
        if self._loop.selector is None:
            return 1
        limits = self._loop.selector.limits
        return 1 + max(limits.budget, limits.frontier * limits.max_depth)

    def _begin(self, request: Request, stream: TextStream) -> None:
        self._sampler.join(request.sampling)
        self._history.join()
        self._streams.append(stream)
        self._roots = np.append(self._roots, request.prompt_ids[-1])
        self._positions = np.append(self._positions, len(request.prompt_ids) - 1)

    def _keep(self, stays: Sequence[bool]) -> None:
        """Let the texts of the other slots leave; the last ones that stay take their places."""
        if all(stays):
            return
        count = sum(stays)
        spare = [slot for slot in range(count, len(stays)) if stays[slot]]
        slots = [slot if stays[slot] else spare.pop() for slot in range(count)]
        self._rearrange([*slots, *([len(stays)] if self._is_reading else [])])
        self._sampler.keep(slots)
        self._history.keep(slots)
        self._streams = [self._streams[slot] for slot in slots]
        self._roots, self._positions = self._roots[slots], self._positions[slots]

    def _rearrange(self, slots: Sequence[int]) -> None:
        self._loop.target.keep(slots)
        if self._loop.drafter is not None:
            self._loop.drafter.keep(slots)

    def _decode(self, context: StepContext, clock: Clock) -> StepRecord:
        target, verifier, drafter, selector, _ = self._loop
        drafted = kept = DraftTree.from_roots(self._roots)
        nodes, widths = np.zeros((len(self._roots), 1), dtype=np.int64), []
        draft_rows: DraftRows = [{} for _ in self._roots]
        if drafter is not None and selector is not None:
            drafted, widths = self._draft(drafted, context, drafter, selector, clock)
            if widths:
                draft_rows = drafter.draft_rows
                nodes = selector.keep(drafted, context)
                kept = drafted.subtree(nodes)
                # The walk may verify any part of a drawn tree; the others count on the places of `draft_rows`.
                is_whole = verifier.terms is WALK or (kept.num_nodes == drafted.num_nodes).all()
                assert is_whole, "a sampled token is never dropped"
            clock.charge("controller", "keep")
        rows = target.score(kept)
        clock.charge("target")
        verdict = verifier.verify(kept, rows, draft_rows, self._sampler, context.positions)
        clock.charge("verify")
        target.commit(verdict.path)
        if drafter is not None and selector is not None:
            path = verdict.path
            drafted_path = np.where(path >= 0, np.take_along_axis(nodes, np.maximum(path, 0), axis=1), -1)
            drafter.commit(drafted, drafted_path, verdict.next_tokens)
            selector.record(kept, context, widths, verdict.accepted_lengths + 1)
            if selector.reads_history:
                self._history.record(kept, rows, verdict, self._sampler)
        num_emitted = emit(self._streams, kept, verdict.path, verdict.next_tokens)
        clock.charge("commit")
        return StepRecord(context, drafted, kept, verdict, widths, num_emitted, **clock.spent)

    def _draft(
        self, tree: DraftTree, context: StepContext, drafter: Drafter, selector: ShapePolicy, clock: Clock
    ) -> tuple[DraftTree, list[int]]:
        """Grow the candidates level by level until the frontier is empty, the caller charges that last decision, or
        nothing grows."""
        widths = []
        while True:
            frontier = selector.frontier(tree, context)
            if frontier.shape[1] == 0:
                return tree, widths
            clock.charge("controller")
            widths.append(max(len({*row.tolist()} - {-1}) for row in frontier))
            num_nodes = tree.tokens.shape[1]
            tree = drafter.expand(tree, frontier, selector.limits.width, self._sampler)
            clock.charge("draft")
            if tree.tokens.shape[1] == num_nodes:  # nothing was found to draft: it would be asked for again
                return tree, widths
