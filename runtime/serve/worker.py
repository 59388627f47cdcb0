"""The decode thread: takes texts from a bounded queue, decodes them together and sends them to the event loop."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from threading import Condition, Thread
from typing import Self

from ...controller.errors import what_it_says
from ..batch import Batch
from ..decoder import Decoder
from ..request import Request
from .errors import ServeError
from .job import Job, Text

log = logging.getLogger(__name__)

# Keeps a text that has ended: its request and its token ids, on the decode thread. False where it cannot, for that
# must not end the request.
KeepText = Callable[[Request, Sequence[int]], bool]


@dataclass
class Totals:
    """What the worker has decoded so far, cut-off texts included."""

    requests: int = 0
    completion_tokens: int = 0
    texts_recorded: int = 0
    texts_unrecorded: int = 0  # ended, but could not be kept


class Worker:
    """Owns the decoder and its one thread; the thread runs inside `with worker:`.

    At most `max_batch` texts are decoded at a time, at most `max_queue` jobs wait for that to begin.
    """

    def __init__(
        self, decoder: Decoder, *, max_batch: int, max_queue: int, totals: Totals, keep_text: KeepText | None = None
    ):
        self._decoder = decoder
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._totals = totals
        self._keep_text = keep_text
        self._waiting: deque[Job] = deque()
        self.is_stopping = False  # no more jobs are taken: asked to stop, or no longer able to decode
        self._changed = Condition()  # guards the two above
        # The decode thread's own:
        self._next_texts: deque[Text] = deque()  # of the last job that has begun, those that have not
        self._texts: list[Text] = []  # in the batch
        self._thread = Thread(target=self._run, name="decode")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    @property
    def is_ready(self) -> bool:
        """Whether jobs are taken and decoded."""
        return self._thread.is_alive() and not self.is_stopping

    def submit(self, requests: Sequence[Request]) -> Job:
        """Queue requests as one job; InputError where one cannot be decoded, ServeError where there is no room."""
        job = Job(requests, self._decoder.open_streams(requests))
        with self._changed:
            if self.is_stopping:
                raise _stopping()
            if len(self._waiting) >= self._max_queue:
                raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the queue is full; try again in a second")
            self._waiting.append(job)
            self._changed.notify()
        return job

    def stop(self) -> None:
        """End the running and the waiting jobs with an error, the running ones after their step."""
        with self._changed:
            self.is_stopping = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._decode_jobs()
        except Exception:
            log.exception("the server can decode no more; start it again")
        finally:  # no job may be left waiting
            self.stop()
            self._end_all(_stopping())
            for job in self._waiting:
                job.send(_stopping())

    def _decode_jobs(self) -> None:
        batch = self._decoder.open_batch()
        while self._admit(batch):
            try:
                self._drop_cancelled(batch)
                batch.step()
                self._drop_failed(batch)
                self._send_texts()
            except Exception:  # a fault of no request's; it must not take the thread from what comes
                log.exception("decoding failed")
                error = ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, "decoding failed; the server's log says why")
                self._end_all(error)
                batch = self._decoder.open_batch()

    def _admit(self, batch: Batch) -> bool:
        """Fill the batch with what waits, and wait where there is nothing; False once the worker is to stop."""
        while len(batch) < self._max_batch:
            if not self._next_texts:
                with self._changed:
                    if not len(batch):
                        self._changed.wait_for(lambda: self._waiting or self.is_stopping)
                    if self.is_stopping or not self._waiting:
                        break
                    job = self._waiting.popleft()
                self._next_texts.extend(Text(job, choice) for choice in range(len(job.requests)))
            text = self._next_texts.popleft()
            self._texts.append(text)
            batch.join(text.request, text.stream)
        return not self.is_stopping

    def _drop_cancelled(self, batch: Batch) -> None:
        for job in {text.job for text in self._texts if text.job.cancelled.is_set()}:
            self._drop(batch, job, ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the client has left"))

    def _drop_failed(self, batch: Batch) -> None:
        """A job fails as a whole with the first of its texts, and alone."""
        errors = {text.job: text.stream.error for text in reversed(self._texts) if text.stream.error is not None}
        for job, error in errors.items():
            log.error("a request failed", exc_info=error)
            reason = f"{type(error).__name__}: {what_it_says(error)}"
            message = f"the request failed ({reason}); the server's log says more"
            self._drop(batch, job, ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, message))

    def _drop(self, batch: Batch, job: Job, error: ServeError) -> None:
        """End a job that has begun before all its texts have ended."""
        for text in self._texts:
            if text.job is job and not text.stream.has_ended:
                batch.leave(text.stream)
        self._end(job, error)

    def _send_texts(self) -> None:
        """What the step has added to each text, and the end of each job that has ended with it."""
        for text in list(self._texts):
            job = text.job
            if (piece := text.take()) is not None:
                job.send(piece)
            if text.stream.finish_reason is not None:
                self._texts.remove(text)
                self._keep(text)
                if not any(other.job is job for other in (*self._texts, *self._next_texts)):
                    self._end(job, None)

    def _keep(self, text: Text) -> None:
        """Before the answer ends: a client that has all of it may rely on the record."""
        if self._keep_text is not None:
            kept = self._keep_text(text.request, text.stream.token_ids)
            self._totals.texts_recorded += kept
            self._totals.texts_unrecorded += not kept

    def _end(self, job: Job, error: ServeError | None) -> None:
        """Forget a job that has begun; None where all its texts have ended."""
        self._texts = [text for text in self._texts if text.job is not job]
        self._next_texts = deque(text for text in self._next_texts if text.job is not job)
        self._totals.requests += 1
        self._totals.completion_tokens += job.num_tokens
        job.send(error)

    def _end_all(self, error: ServeError) -> None:
        """End all jobs that have begun."""
        for job in {text.job for text in (*self._texts, *self._next_texts)}:
            self._end(job, error)


def _stopping() -> ServeError:
    return ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping; ask again once it is back")
