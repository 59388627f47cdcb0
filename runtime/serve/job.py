"""The texts of one HTTP request, on their way from the decode thread to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from threading import Event
from typing import NamedTuple

from ..request import Request
from ..text.stopping import TextStream
from .errors import ServeError


class Piece(NamedTuple):
    choice: int
    text: str
    finish_reason: str | None  # set in the last piece of a choice


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
