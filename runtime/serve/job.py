"""The texts of one HTTP request, on their way from the decode thread to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from threading import Event
from typing import NamedTuple

from ..log_probs import TokenLogProbs
from ..request import Request
from ..text.stopping import TextStream
from .errors import ServeError


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
        self.cancelled = Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | ServeError | None] = asyncio.Queue()

    @property
    def num_tokens(self) -> int:
        return sum(len(stream.token_ids) for stream in self.streams)

    async def pieces(self) -> AsyncIterator[Piece]:
        """The texts as they grow; ServeError where they cannot be brought to their ends."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, ServeError):
                raise event
            yield event

    def send(self, event: Piece | ServeError | None) -> None:
        """Hand over a piece, or how the job ended (None: well); called on the decode thread."""
        with suppress(RuntimeError):  # the loop is closed, so no client waits any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Text(NamedTuple):
    """One text of a job."""

    job: Job
    choice: int

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
