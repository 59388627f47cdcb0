"""The decoder: a loop that is lossless, and the batches of requests that it runs."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..controller.contract import WALK, require_sound
from ..controller.errors import InputError, SettingError
from ..controller.policies.base import ShapePolicy
from ..controller.pricing.objective import Objective
from ..controller.trees.limits import SIZES
from .batch import Batch
from .drafters.base import Drafter
from .log_probs import TextLogProbs
from .loop import Loop, Observer
from .prefixes.memory import open_store
from .prefixes.store import PrefixStore, PrefixTotals
from .request import Request, check_request
from .sink import TokenSink
from .stats import DecodeStats, StepRecord
from .target import Target
from .text.detokeniser import Detokeniser
from .text.stopping import Stops, TextStream
from .verification.base import Verifier


class Parts(NamedTuple):
    """What is to be known of a decoder to show what it does."""

    scheme: str | None  # None where nothing is drafted
    verifier: str
    detokeniser: Detokeniser | None
    end_tokens: frozenset[int]


class Decoder:
    """Refuses an unsound scheme, selector and verifier when built, and trees that the target's engine cannot verify.

    Without drafter and selector this is plain decoding: a tree of the root alone, through the same code. Without
    detokeniser there are no texts: tokens go into sinks that the caller makes, through `steps` or `open_batch`.
    """

    def __init__(
        self,
        target: Target,
        verifier: Verifier,
        detokeniser: Detokeniser | None,
        end_tokens: frozenset[int],
        *,
        drafter: Drafter | None = None,
        selector: ShapePolicy | None = None,
        observer: Observer | None = None,
        objective: Objective | None = None,
    ):
        assert (drafter is None) == (selector is None), "a drafter needs a selector and a selector a drafter"
        if drafter is not None and selector is not None:
            require_sound(drafter.scheme, selector.information, verifier.terms)
            most = target.model.max_leaves
            leaves = selector.limits.max_leaves(sampled=drafter.scheme.sampled)
            if most is not None and leaves > most:
                raise InputError(
                    f"the target's engine verifies trees of at most {most} leaves, and the trees asked for may have "
                    f"{leaves}; ask for fewer children per node or a smaller budget"
                )
        self._loop = Loop(target, verifier, drafter, selector, observer)
        self._prefixes: PrefixStore | None = None
        self.objective = objective  # the choice rule of the selector, if it has one
        self._detokeniser = detokeniser
        self._end_tokens = end_tokens
        self._special = {} if detokeniser is None else detokeniser.special_tokens

    @property
    def theta_scales(self) -> Mapping[float, float]:
        """Of the choice rule, by temperature; none without one."""
        return {} if self.objective is None else self.objective.scales

    @property
    def parts(self) -> Parts:
        drafter, verifier = self._loop.drafter, self._loop.verifier
        scheme = None if drafter is None else drafter.scheme.name
        return Parts(scheme, verifier.terms.name, self._detokeniser, self._end_tokens)

    def prepare(self, max_batch: int) -> None:
        """Do ahead what the first steps of up to `max_batch` requests would do; on a device it captures graphs."""
        self._loop.prepare(max_batch)

    def keep_prefixes(self, num_tokens: int | None, totals: PrefixTotals) -> None:
        """Batches opened from now on do not read again what an earlier text began with. Up to `num_tokens` tokens are
        kept for each model, see `open_store`, and counted in `totals`; a batch before has ended."""
        self._prefixes = open_store(self._loop.open(), num_tokens, totals)

    def generate(self, requests: Sequence[Request]) -> tuple[list[TextStream], DecodeStats]:
        """Decode the requests together to their ends; raises as `steps` does."""
        streams = self.open_streams(requests)
        stats = DecodeStats()
        for record in self.steps(requests, streams):
            stats.add(record)
        return streams, stats

    def open_streams(self, requests: Sequence[Request]) -> list[TextStream]:
        """One text per request; InputError for a request that cannot be decoded."""
        model = self._loop.target.model
        for request in requests:
            check_request(request, model.context_length, model.vocabulary_size)
            if request.policy is not None:
                self._check_policy(request.policy)
        return [self._open_stream(request, Stops.of(request.stop, self._special)) for request in requests]

    def _check_policy(self, policy: ShapePolicy) -> None:
        """SettingError for trees that a request may not ask for in place of the loop's."""
        drafter, selector, verifier = self._loop.drafter, self._loop.selector, self._loop.verifier
        refusal = "asks for a tree, and {}; leave it out".format
        if drafter is None or selector is None:
            raise SettingError("speculation", refusal("nothing is drafted here"))
        if verifier.terms is not WALK:
            raise SettingError("speculation", refusal(f"{verifier.terms.name} verifies sampled ones"))
        if drafter.most_ahead:
            raise SettingError("speculation", refusal("a stack of drafters drafts its own"))
        for name in SIZES:
            asked, most = getattr(policy.limits, name), getattr(selector.limits, name)
            if asked > most:
                says = f"asks for a tree of {name} {asked}, and the largest here is {most}; ask for a smaller one"
                raise SettingError("speculation", says)

    def _open_stream(self, request: Request, stops: Stops) -> TextStream:
        assert self._detokeniser is not None, "a decoder without detokeniser decodes into sinks alone"
        return TextStream(
            self._detokeniser,
            max_tokens=request.max_tokens,
            min_tokens=request.min_tokens,
            end_tokens=request.end_tokens(self._end_tokens, stops),
            stop=stops.strings,
            prompt_ids=request.prompt_ids,
            silent=self._special.values(),
            log_probs=self._log_probs(request),
        )

    def _log_probs(self, request: Request) -> TextLogProbs | None:
        if request.log_probs is None:
            return None
        prompt_ids = request.prompt_ids if request.prompt_log_probs else ()
        return TextLogProbs(request.log_probs, self._loop.target.model.vocabulary_size, prompt_ids)

    def steps(
        self, requests: Sequence[Request], sinks: Sequence[TokenSink], max_batch: int | None = None
    ) -> Iterator[StepRecord]:
        """Decode step by step into `sinks`, up to `max_batch` requests together; ends when every request has ended. A
        caller may stop asking earlier.

        If a request fails, the others are decoded to their ends before its error is raised.
        """
        batch, waiting = self.open_batch(), deque(zip(requests, sinks, strict=True))
        while waiting or len(batch):
            while waiting and (max_batch is None or len(batch) < max_batch):
                batch.join(*waiting.popleft())
            record = batch.step()
            if record is not None:
                yield record
        _raise_first_error(requests, sinks)

    def open_batch(self) -> Batch:
        """An empty batch, which requests join and leave; it ends the batch before, whose rows the models drop."""
        return Batch(self._loop, self._prefixes)


def _raise_first_error(requests: Sequence[Request], sinks: Sequence[TokenSink]) -> None:
    """Raise the first request's error, with a note that identifies the request."""
    for number, (request, sink) in enumerate(zip(requests, sinks, strict=True), start=1):
        if sink.error is not None:
            sink.error.add_note(f"raised by request {number} of {len(requests)}, whose seed is {request.sampling.seed}")
            raise sink.error
