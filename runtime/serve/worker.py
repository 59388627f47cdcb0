"""The decode thread: takes texts from the queue, decodes them together and sends them to the event loop."""

import asyncio
import logging
from collections.abc import Sequence
from threading import Thread
from typing import Self

from ...controller.errors import InputError, what_it_says
from ..decoder import Decoder
from ..request import Request
from .errors import departed, failure, stopping
from .inbox import Inbox
from .job import Failure, Job, Text
from .metrics.server import ServerMetrics
from .running import BuildDecoder, PrepareDecoder, Running
from .totals import KeepText, Totals

log = logging.getLogger(__name__)


class Worker:
    """Owns the decoder and its one thread, which runs inside `with worker:`; what it cannot decode yet waits."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_batch: int,
        max_queue: int,
        totals: Totals,
        max_wait: float = 120.0,
        keep_text: KeepText | None = None,
        prepare: PrepareDecoder | None = None,
    ):
        self._totals = totals
        self._keep_text = keep_text
        self._inbox = Inbox(max_queue, max_wait)
        self._running = Running(decoder, max_batch, prepare)
        self._thread = Thread(target=self._run, name="decode")
        running, inbox = self._running, self._inbox
        self.metrics = ServerMetrics(totals, running.__len__, inbox.__len__, lambda: running.decoder.objective)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    @property
    def decoder(self) -> Decoder:
        """What decodes now."""
        return self._running.decoder

    @property
    def is_stopping(self) -> bool:
        """Whether no more jobs are taken."""
        return self._inbox.is_stopping

    @property
    def is_ready(self) -> bool:
        """Whether jobs are taken and decoded."""
        return self._thread.is_alive() and not self.is_stopping

    @property
    def has_ended(self) -> bool:
        """Whether no job is left and none is taken."""
        return self.is_stopping and not self._thread.is_alive()

    async def submit(self, requests: Sequence[Request]) -> Job:
        """Queue requests as one job; InputError where one cannot be decoded, ServeError where there is no room."""
        job = Job(requests, await asyncio.to_thread(self._running.decoder.open_streams, requests))
        rejection = self._inbox.add(job)
        if rejection is not None:
            self.metrics.requests.reject(requests, rejection.reason)
            raise rejection.error
        self.metrics.requests.accept(job)
        return job

    def replace_decoder(self, build: BuildDecoder) -> None:
        """Decode with what `build` makes from the next step on; as before where it raises InputError."""
        self._inbox.replace_decoder(build)

    def drain(self) -> None:
        """Take no more jobs; those that were taken are decoded to their ends."""
        self._inbox.stop(must_end=False)

    def stop(self) -> None:
        """End the running and the waiting jobs with an error, the running ones after their step."""
        self._inbox.stop(must_end=True)

    def _run(self) -> None:
        try:
            self._decode_jobs()
        except Exception:
            log.exception("the server can decode no more; start it again")
        finally:  # no job may be left waiting
            self.stop()
            for job in {*self._running.forget(), *self._inbox.jobs}:
                self._end(job, stopping(), "stopping")

    def _decode_jobs(self) -> None:
        while self._inbox.wait(is_running=bool(self._running)):
            try:
                self._change_decoder()
                self._drop_cancelled()
                self._admit()
                self._drop_overdue()
                record = self._running.step()
                if record is not None:
                    self.metrics.steps.count(record)
                    self.metrics.predictions.count()
                self._drop_failed()
                self._send_texts()
            except Exception:  # a fault of no request's; it must not take the thread from what comes
                log.exception("decoding failed")
                for job in self._running.forget():
                    self._end(job, failure("decoding failed; the server's log says why"), "error")
                self._running.begin_anew()

    def _admit(self) -> None:
        """Fill the batch with what waits."""
        while (text := self._next_text()) is not None:
            self._running.join(text)
            text.job.begin()
            self.metrics.requests.begin(text)

    def _next_text(self) -> Text | None:
        """The next text to join; where the batch is full, another is paused for it, if that is fair."""
        counts = self._running.counts
        if len(self._running) >= self._running.max_batch:
            job = self._inbox.wants_one_of(counts)
            if job is None:
                return None
            self._inbox.put_back(self._running.pause(job))
            counts[job] -= 1
        return self._inbox.take(counts)

    def _change_decoder(self) -> None:
        build = self._inbox.take_build()
        if build is not None:
            for text in reversed(self._running.change_decoder(build)):
                self._inbox.put_back(text)

    def _drop_cancelled(self) -> None:
        for job in {*self._running.counts, *self._inbox.jobs}:
            if job.cancelled.is_set():
                self._end(job, departed(), "cancelled")

    def _drop_overdue(self) -> None:
        for job, error in self._inbox.overdue().items():
            self._end(job, error, "max_wait")

    def _drop_failed(self) -> None:
        """A job fails as a whole with the first of its texts, and alone."""
        for job, error in self._running.errors().items():
            if isinstance(error, InputError):
                self._end(job, error, "refused")
                continue
            log.error("a request failed", exc_info=error)
            reason = f"{type(error).__name__}: {what_it_says(error)}"
            self._end(job, failure(f"the request failed ({reason}); the server's log says more"), "error")

    def _send_texts(self) -> None:
        """What the step has added to each text, and the end of each job which that ends."""
        for text in self._running.texts:
            self.metrics.requests.count_tokens(text)
            if (piece := text.take()) is not None:
                text.job.send(piece)
        ended = self._running.take_ended()
        for text in ended:
            self._keep(text)
            self.metrics.requests.finish(text)
        self._inbox.count_ended(len(ended))
        for job in dict.fromkeys(text.job for text in ended):
            if all(stream.finish_reason for stream in job.streams):
                self._end(job, None)

    def _keep(self, text: Text) -> None:
        """Before the answer ends: a client that has all of it may rely on the record."""
        if self._keep_text is not None:
            self._totals.count_text(kept=self._keep_text(text.request, text.stream.token_ids))

    def _end(self, job: Job, error: Failure | None, reason: str = "") -> None:
        """Forget a job; no error where all its texts have ended."""
        self._running.drop(job)
        self._inbox.remove(job)
        if error is not None:
            self.metrics.requests.abandon(job, reason)
        self._totals.requests += 1
        self._totals.completion_tokens += job.num_tokens
        job.send(error)
