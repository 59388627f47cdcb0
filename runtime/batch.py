"""The batch: requests decoded together, each in its own slot; they join and leave between two steps.

A step drafts, selects, verifies and commits, for all slots at once. Slots in use are always the first ones. At most one
request behind them is reading its prompt, a chunk per step, so that a long prompt does not delay the others; further
requests wait for it. The forward that scores its first tree reads the last chunk. A request's tokens do not depend on
its neighbours: under the walk they are the plain text of its seed, and other verifiers take their coins from the seed.

A request that fails, for example for lack of memory, fails alone. A failure while it joins or reads its prompt does not
affect the others. If a step of several requests fails, none has emitted a token; each is decoded alone, one after
another, with the same result, and only the one that fails again ends with the error.
"""

import logging
from collections import deque
from dataclasses import replace

import numpy as np
import torch

from ..controller.context import StepContext
from ..controller.contract import WALK
from ..controller.policies.mixed import begin_step
from ..controller.trees.tree import DraftTree
from .dead_ends import cut_at_dead_ends, fail_at_dead_ends
from .drafters.language_model import LanguageModelDrafter
from .engines.base import CHUNK
from .entry import Entry
from .growth import grow
from .loop import Loop
from .prefixes.store import PrefixStore
from .processing import processed
from .request import Request
from .sink import TokenSink, emit
from .slots import Slots
from .stats import Clock, StepRecord
from .verification.base import DraftRows

# Prompt tokens read in a row while no request waits for a step.
FIRST_READ = 8 * CHUNK

log = logging.getLogger(__name__)


class Batch:
    """The requests of a `Loop`, whose models hold the rows of one batch at a time; `prefixes` outlive it."""

    def __init__(self, loop: Loop, prefixes: PrefixStore | None = None):
        self._loop = loop
        self._prefixes = prefixes
        self._joining: deque[Entry] = deque()
        self._open()

    def _open(self) -> None:
        """Begin with empty slots."""
        self._slots = Slots(self._loop, self._prefixes)
        self._is_reading = False  # the first of those joining has the slot behind those in use
        self._clock = Clock()

    def __len__(self) -> int:
        """Requests that have joined and not yet left."""
        return len(self._slots.entries) + len(self._joining)

    def join(self, request: Request, sink: TokenSink) -> None:
        """Decode `request` into `sink` from one of the next steps on, until it has ended or failed. Tokens that are in
        the sink already are the last ones of the request's prompt."""
        self._joining.append(Entry(request, sink, len(sink.token_ids)))

    def leave(self, sink: TokenSink) -> None:
        """Stop a request that has not ended."""
        if sink in self._slots.sinks:
            stays = [other is not sink for other in self._slots.sinks]
            self._slots.keep(stays, num_read=int(self._is_reading))
            return
        index = next(index for index, entry in enumerate(self._joining) if entry.sink is sink)
        del self._joining[index]
        if index == 0 and self._is_reading:
            self._is_reading = False
            self._slots.drop_newcomer()

    def step(self) -> StepRecord | None:
        """Read a chunk of a joining prompt, then decode one step of the other requests.

        None where there are no others yet, and where the step failed; no tokens were emitted then.
        """
        self._slots.require_open()
        try:
            record = self._step()
        except Exception as error:
            self._part(error)
            return None
        if record is not None and self._loop.observer is not None:
            self._loop.observer(record)
        return record

    @torch.inference_mode()
    def _step(self) -> StepRecord | None:
        clock, slots = self._clock, self._slots  # one clock, also for steps that only read
        clock.start()
        self._read_prompts()
        clock.charge("read")
        fail_at_dead_ends(slots.entries)
        slots.drop_ended(num_read=int(self._is_reading))
        if not slots.entries:
            return None
        self._clock = Clock()
        record = self._decode(slots.context, clock)
        slots.show(record)
        slots.advance(record.verdict.next_tokens, record.verdict.accepted_lengths)
        slots.drop_ended(num_read=int(self._is_reading))
        return record

    def _part(self, error: Exception) -> None:
        """After a failed step: end the request that was alone in it, or decode each of several alone."""
        entries = [entry for entry in self._slots.entries if entry.sink.remaining]
        self._open()
        if not entries:
            raise error
        if len(entries) == 1:
            entries[0].sink.fail(error)
            return
        log.warning("a step of %d requests failed; each is decoded alone", len(entries), exc_info=error)
        self._joining.extendleft(entry.going_on_alone() for entry in reversed(entries))

    def _read_prompts(self) -> None:
        # The ends of prompts are read with the first trees, unless the others' would be padded to them, or the drafter
        # waits for the rows.
        is_alone = not self._slots.entries
        target = self._loop.target
        together = CHUNK if (target.model.packs or is_alone) and not target.num_kept else 0
        budget = FIRST_READ if is_alone else CHUNK
        while budget > 0 and self._may_join():
            entry = self._joining[0]
            try:
                budget -= self._read(entry, budget, together)
            except Exception as error:
                self._joining.popleft()
                self._is_reading = False
                entry.sink.fail(error)  # first: what has failed once may fail again
                self._slots.drop_newcomer()

    def _may_join(self) -> bool:
        """Whether the first of the joining requests may join now; one that finds no room waits until others leave."""
        others = self._slots.entries
        if not others or not self._joining or self._is_reading:
            return bool(self._joining)
        first = self._joining[0]
        return not (first.is_alone or others[0].is_alone) and self._slots.has_room(first)

    def _read(self, entry: Entry, budget: int, together: int) -> int:
        """Join a request and read its prompt up to the `budget`, all but the last tokens, which are read `together`
        with its first tree; tokens of the budget that it used."""
        target, slot = self._loop.target, len(self._slots.entries)
        if not self._is_reading:
            self._slots.join(entry)
            self._is_reading = True
        together = 0 if entry.reads_prompt_first else together
        to_read = max(0, target.num_unread(slot) - together)
        self._slots.read(entry, min(to_read, budget))
        num_left = target.num_unread(slot)
        if to_read <= budget:
            self._slots.begin(entry)
            self._joining.popleft()
            self._is_reading = False
            self._slots.drop_ended(num_read=0)
        return to_read + min(num_left, together)

    def _decode(self, context: StepContext, clock: Clock) -> StepRecord:
        target, verifier, drafter, selector, _ = self._loop
        drafted = kept = DraftTree.from_roots(self._slots.roots)
        nodes, widths = np.zeros((len(self._slots.roots), 1), dtype=np.int64), []
        draft_rows: DraftRows = [{} for _ in self._slots.roots]
        step = log_values = None
        if drafter is not None and selector is not None and self._slots.speculate:
            if self._loop.reads_agreement:
                assert isinstance(drafter, LanguageModelDrafter)
                context = replace(context, agreement=self._slots.agreement.read(drafter, self._slots.sampler))
                clock.charge("draft")
            step = begin_step(selector, self._slots.policies, context)
            drafted, widths = grow(drafted, step, drafter, selector.limits.width, self._slots.sampler, clock)
            if widths:
                draft_rows = drafter.draft_rows
                nodes, log_values = step.keep(drafted), step.log_values
                kept = drafted.subtree(nodes)
                # The walk may verify any part of a sampled tree; the others use the node indices of `draft_rows`.
                is_whole = verifier.terms is WALK or (kept.num_nodes == drafted.num_nodes).all()
                assert is_whole, "a sampled token is never dropped"
            clock.charge("controller", "keep")
        scored = target.score(kept)
        rows = processed(self._slots.sampler.processors, kept, None, scored, of_target=True)
        clock.charge("target")
        reads_history = step is not None and selector is not None and selector.reads_history
        verdict = verifier.verify(
            kept, rows, draft_rows, self._slots.sampler, context.positions, surprises=reads_history
        )
        verdict = cut_at_dead_ends(verdict, kept, self._slots.sampler.processors)
        clock.charge("verify")
        target.commit(verdict.path)
        if drafter is not None:
            path = verdict.path
            drafted_path = np.where(path >= 0, nodes[np.arange(len(path))[:, None], path], -1)
            drafter.commit(drafted, drafted_path, verdict.next_tokens)
        if step is not None:
            step.record(kept, widths, verdict.path)
            if reads_history:
                self._slots.history.record(kept, rows, verdict, self._slots.sampler)
            if self._loop.reads_agreement:
                self._slots.agreement.record(rows, draft_rows, verdict, self._slots.sampler)
        num_emitted = emit(self._slots.sinks, kept, scored, verdict)
        clock.charge("commit")
        return StepRecord(context, drafted, kept, verdict, widths, num_emitted, nodes, log_values, **clock.spent)
