"""The texts of one HTTP request, on their way from the decode thread to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event
from time import monotonic
from typing import NamedTuple

from ...controller.errors import InputError
from ..log_probs import TokenLogProbs
from ..request import Request
from ..text.stopping import TextStream
from .errors import ServeError

Failure = ServeError | InputError  # how a job ends that is not brought to its end


class ScoredTokens(NamedTuple):
    """The log-probabilities of some tokens of a text."""

    of_prompt: Sequence[TokenLogProbs]  # all of the prompt's that were asked for, with every piece
    of_text: Sequence[TokenLogProbs]
    starts: Sequence[int]  # of these, the number of characters of the text before each


class Piece(NamedTuple):
    choice: int
    text: str
    finish_reason: str | None  # set in the last piece of a choice
    num_tokens: int  # of the choice, up to here
    scored: ScoredTokens | None = None  # of the tokens since the piece before, where they are asked for

    @classmethod
    def joined(cls, pieces: Iterable["Piece"]) -> "Piece":
        """All pieces of one choice as one."""
        *_, last = parts = list(pieces)
        scored = last.scored
        if scored is not None:
            of_text = [each for part in parts if part.scored is not None for each in part.scored.of_text]
            starts = [each for part in parts if part.scored is not None for each in part.scored.starts]
            scored = ScoredTokens(scored.of_prompt, of_text, starts)
        return last._replace(text="".join(part.text for part in parts), scored=scored)


class Job:
    """The texts of one HTTP request; made on the event loop."""

    def __init__(self, requests: Sequence[Request], streams: Sequence[TextStream]):
        self.requests = requests
        self.streams = streams  # the decode thread's until the last piece has come
        self.submitted = monotonic()
        self.has_begun = False  # the decode thread's
        self.cancelled = Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Failure | None] = asyncio.Queue()
        self._begun: asyncio.Future[Failure | None] = self._loop.create_future()

    @property
    def num_tokens(self) -> int:
        return sum(len(stream.token_ids) for stream in self.streams)

    async def begun(self) -> None:
        """Wait until the first text has left the queue; raises as `pieces` does where none has."""
        failure = await asyncio.shield(self._begun)
        if failure is not None:
            raise failure

    async def pieces(self) -> AsyncIterator[Piece]:
        """The texts as they grow. InputError or ServeError where they cannot be brought to their ends, by the request's
        fault or not."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, Failure):
                raise event
            yield event

    def begin(self) -> None:
        """A text has left the queue; called on the decode thread."""
        if not self.has_begun:
            self.has_begun = True
            self._call(self._set_begun, None)

    def send(self, event: Piece | Failure | None) -> None:
        """Hand over a piece, or how the job ended (None: well); called on the decode thread."""
        if isinstance(event, Failure):
            self._call(self._set_begun, event)
        self._call(self._events.put_nowait, event)

    def _set_begun(self, failure: Failure | None) -> None:
        if not self._begun.done():
            self._begun.set_result(failure)

    def _call(self, function: Callable[..., None], argument: Piece | Failure | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no client waits any more
            self._loop.call_soon_threadsafe(function, argument)


@dataclass(eq=False)
class Text:
    """One text of a job."""

    job: Job
    choice: int
    # For the metrics:
    begun: float | None = None  # when it left the queue first
    counted: float = 0.0  # when tokens came last
    num_counted: int = 0  # tokens up to then

    @property
    def request(self) -> Request:
        return self.job.requests[self.choice]

    @property
    def stream(self) -> TextStream:
        return self.job.streams[self.choice]

    def take(self) -> Piece | None:
        """What is new and decided; None where nothing is."""
        stream = self.stream
        text = stream.take()
        if not text and stream.finish_reason is None:
            return None
        scored = None
        if stream.log_probs is not None:
            new = stream.log_probs.take()
            num_before = len(stream.log_probs.of_text) - len(new)
            # A stop string may have been cut away below tokens that are a part of it.
            starts = [min(start, len(stream.text)) for start in stream.starts[num_before:]]
            scored = ScoredTokens(stream.log_probs.of_prompt, new, starts)
        return Piece(self.choice, text, stream.finish_reason, len(stream.token_ids), scored)

    @property
    def rest(self) -> Request:
        """What is still to be decoded: all of it, or what follows where it was paused."""
        taken = self.stream.token_ids
        if not taken:
            return self.request
        prompt_ids = [*self.request.prompt_ids, *taken]
        return replace(self.request, prompt_ids=prompt_ids, max_tokens=self.stream.remaining, prompt_log_probs=False)
