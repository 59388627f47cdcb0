"""The slots of a batch: one per request, the same in target, drafter, sampler and what is known of the text; those in
use come first."""

from collections.abc import Sequence

import numpy as np

from ..controller.context import StepContext
from ..controller.learned.recalibration import Calibration
from ..controller.policies.base import ShapePolicy
from ..controller.trees.tree import Array
from .agreement import TextAgreement
from .entry import Entry
from .history import TextHistory
from .loop import Loop
from .prefixes.rows import NO_PREFIX, Prefix
from .prefixes.store import PrefixStore
from .processing import TextProcessor
from .sampling import TokenSampler
from .sink import TokenSink
from .stats import StepRecord


class Slots:
    """The state of each request. Target and drafter hold one more while its prompt is being read.

    What they have read of a request's text goes into `prefixes` when it leaves, and earlier where one joins that begins
    alike. A request that has failed, or is decoded alone, leaves nothing there.
    """

    def __init__(self, loop: Loop, prefixes: PrefixStore | None):
        self._prefixes = prefixes
        self._sessions = loop.open()
        self._target = loop.target
        self._drafter = loop.drafter
        self._num_rows = loop.num_rows
        self.sampler = TokenSampler([], loop.target.model.vocabulary_size, loop.target.model.device)
        self.history = TextHistory()
        self.calibration = Calibration()
        self.agreement = TextAgreement()
        self.entries: list[Entry] = []
        self.roots = np.zeros(0, dtype=np.int64)
        self.positions = np.zeros(0, dtype=np.int64)  # of the roots

    def require_open(self) -> None:
        """AssertionError where another batch has opened one of the models since."""
        for session in self._sessions:
            assert session.model

    @property
    def sinks(self) -> list[TokenSink]:
        return [entry.sink for entry in self.entries]

    @property
    def speculate(self) -> bool:
        """Whether any of the requests does."""
        return any(entry.request.speculates for entry in self.entries)

    @property
    def policies(self) -> list[ShapePolicy | None]:
        """Of the requests, where they have their own."""
        return [entry.request.policy for entry in self.entries]

    @property
    def context(self) -> StepContext:
        """Of the next step. No token is drafted behind the last one, as which counts that of a request which does not
        speculate."""
        remaining = [entry.sink.remaining if entry.request.speculates else 1 for entry in self.entries]
        return StepContext(
            positions=self.positions,
            remaining=np.array(remaining),
            temperatures=self.sampler.temperatures,
            top_ps=self.sampler.top_ps,
            history=self.history.values.astype(np.float32),
            calibration=self.calibration,
            num_unread=sum(self._target.num_unread(slot) for slot in range(len(self.entries))),
        )

    def has_room(self, entry: Entry) -> bool:
        """Whether the request is to `join` now; False while others have the room in a cache that it needs."""
        return all(session.model.has_room(entry.capacity(self._num_rows)) for session in self._sessions)

    def join(self, entry: Entry) -> None:
        """Add a request to target and drafter, its prompt unread."""
        text, capacity = np.asarray(entry.request.prompt_ids, dtype=np.int64), entry.capacity(self._num_rows)
        if (log_probs := entry.prompt_log_probs) is not None:
            log_probs.of_prompt.clear()  # of a batch that failed before all was read
        prefix = self._prefix(entry, text)
        self._target.join(text, capacity, prefix)
        if self._drafter is not None:
            self._drafter.join(text, capacity, prefix)
        if self._prefixes is not None:
            num_unread = self._target.num_unread(len(self.entries))
            self._prefixes.totals.add(len(text), len(text) - 1 - num_unread)

    def _prefix(self, entry: Entry, text: Array) -> Prefix:
        """What is held of the beginning of a text [n] that joins, and in the slots of the others."""
        if self._prefixes is None or entry.is_alone or entry.prompt_log_probs is not None:
            return NO_PREFIX
        scope = entry.request.scope
        for slot, other in enumerate(self.entries):
            if other.request.scope == scope:
                self._prefixes.keep(scope, _common(other.text, text), slot)
        return self._prefixes.find(scope, text)

    def _keep_prefixes(self, leaving: Sequence[int]) -> None:
        if self._prefixes is None:
            return
        for slot in leaving:
            entry = self.entries[slot]
            if not entry.is_alone and entry.sink.error is None:
                self._prefixes.keep(entry.request.scope, entry.text, slot)

    def read(self, entry: Entry, num_tokens: int) -> None:
        """Read so many tokens of the prompt of the request that has joined."""
        log_probs = entry.prompt_log_probs
        self._target.read(len(self.entries), num_tokens, None if log_probs is None else log_probs.read)

    def begin(self, entry: Entry) -> None:
        """Decode the request that has joined, from the end of its prompt on."""
        request, prompt_ids = entry.request, entry.request.prompt_ids
        process, text = request.processor, entry.sink.token_ids
        self.sampler.join(request.sampling, None if process is None else TextProcessor(process, text, request.reach))
        self.history.join()
        self.calibration.join()
        self.agreement.join()
        self.roots = np.append(self.roots, prompt_ids[-1])
        self.positions = np.append(self.positions, len(prompt_ids) - 1)
        self.entries.append(entry)
        if not entry.sink.remaining:
            entry.sink.append(())  # it has all that it takes

    def show(self, record: StepRecord) -> None:
        """The step that they have just taken, to the requests that observe theirs; one whose observer raises ends."""
        for index, (request, sink, *_) in enumerate(self.entries):
            if request.observer is not None:
                try:
                    request.observer(record, index)
                except Exception as error:
                    sink.fail(error)

    def advance(self, next_tokens: Array, accepted_lengths: Array) -> None:
        """The next roots, [B] each, behind what a step accepted."""
        self.roots = next_tokens
        self.positions = self.positions + accepted_lengths + 1

    def drop_ended(self, *, num_read: int) -> None:
        """Remove the requests that have ended."""
        self.keep([sink.remaining > 0 for sink in self.sinks], num_read=num_read)

    def keep(self, stays: Sequence[bool], *, num_read: int) -> None:
        """Remove the requests that do not stay; the last ones that stay move to their slots. The `num_read` requests,
        0 or 1, whose prompts are being read stay behind them."""
        if all(stays):
            return
        self._keep_prefixes([slot for slot, each in enumerate(stays) if not each])
        count = sum(stays)
        movable = [slot for slot in range(count, len(stays)) if stays[slot]]
        slots = [slot if stays[slot] else movable.pop() for slot in range(count)]
        self._keep_models([*slots, *range(len(stays), len(stays) + num_read)])
        self._keep_texts(slots)

    def drop_newcomer(self) -> None:
        """Restore the state before the last request began to join, at whatever point that has failed."""
        slots = range(len(self.entries))
        self._target.forget_forward()
        self._keep_models(slots)
        self._keep_texts(slots)

    def _keep_models(self, slots: Sequence[int]) -> None:
        self._target.keep(slots)
        if self._drafter is not None:
            self._drafter.keep(slots)

    def _keep_texts(self, slots: Sequence[int]) -> None:
        self.sampler.keep(slots)
        self.history.keep(slots)
        self.calibration.keep(slots)
        self.agreement.keep(slots)
        self.entries = [self.entries[slot] for slot in slots]
        self.roots, self.positions = self.roots[list(slots)], self.positions[list(slots)]


def _common(text: Array, other: Array) -> Array:
    """The beginning that two texts share."""
    size = min(len(text), len(other))
    differs = text[:size] != other[:size]
    return text[: int(differs.argmax()) if differs.any() else size]
