"""The decode thread: takes jobs from a bounded queue and sends their text back to the event loop."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from threading import Condition, Event, Thread
from typing import NamedTuple, Self

from ..decode import Decoder
from ..request import Request
from ..stopping import TextStream
from .errors import ServeError

log = logging.getLogger(__name__)

# Keeps a text that has ended: its request and its token ids, on the decode thread. False where it cannot, for that
# must not end the request.
KeepText = Callable[[Request, Sequence[int]], bool]


class Piece(NamedTuple):
    choice: int
    text: str
    finish_reason: str | None  # set in the last piece of a choice


@dataclass
class Totals:
    """What the worker has decoded so far, cut-off texts included."""

    requests: int = 0
    completion_tokens: int = 0
    texts_recorded: int = 0
    texts_unrecorded: int = 0  # ended, but could not be kept


class Job:
    """The texts of one HTTP request, which are decoded one after another; made on the event loop."""

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
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Worker:
    """Owns the decoder and its one thread; the thread runs inside `with worker:`."""

    def __init__(self, decoder: Decoder, *, max_queue: int, totals: Totals, keep_text: KeepText | None = None):
        self._decoder = decoder
        self._max_queue = max_queue
        self._totals = totals
        self._keep_text = keep_text
        self._waiting: deque[Job] = deque()
        self._stopping = False
        self._changed = Condition()  # guards the two above
        self._thread = Thread(target=self._run, name="decode")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    def submit(self, requests: Sequence[Request]) -> Job:
        """Queue requests as one job; InputError where one cannot be decoded, ServeError where there is no room."""
        job = Job(requests, self._decoder.open_streams(requests))
        with self._changed:
            if self._stopping:
                raise _stopping()
            if len(self._waiting) >= self._max_queue:
                raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the queue is full; try again in a second")
            self._waiting.append(job)
            self._changed.notify()
        return job

    def stop(self) -> None:
        """End the running and the waiting jobs with an error, the running one after its step."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            error = self._decode(job)
            self._totals.requests += 1
            self._totals.completion_tokens += job.num_tokens
            job.send(error)
        for job in self._waiting:
            job.send(_stopping())

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            return None if self._stopping else self._waiting.popleft()

    def _decode(self, job: Job) -> ServeError | None:
        """How the job ended: None when all its texts have."""
        try:
            for choice in range(len(job.requests)):
                self._decode_choice(job, choice)
        except ServeError as error:
            return error
        except Exception:  # one job must not take the thread from all the others
            log.exception("decoding failed")
            return ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, "decoding failed; the server's log says why")
        return None

    def _decode_choice(self, job: Job, choice: int) -> None:
        stream = job.streams[choice]
        steps = self._decoder.steps([job.requests[choice]], [stream])
        while stream.remaining:
            if self._stopping:
                raise _stopping()
            if job.cancelled.is_set():
                raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the client has left")
            next(steps)
            text = stream.take()
            if text or stream.finish_reason:
                job.send(Piece(choice, text, stream.finish_reason))
        # Before the answer ends: a client that has all of it may rely on the record.
        if self._keep_text is not None:
            kept = self._keep_text(job.requests[choice], stream.token_ids)
            self._totals.texts_recorded += kept
            self._totals.texts_unrecorded += not kept


def _stopping() -> ServeError:
    return ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping; ask again once it is back")
