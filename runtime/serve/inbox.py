"""What other threads ask of the decode thread, which takes it between two steps."""

from collections import Counter
from threading import Condition
from typing import NamedTuple

from .errors import ServeError, stopping
from .job import Job, Text
from .queue import FairQueue
from .running import BuildDecoder


class Rejection(NamedTuple):
    """Why a job is not taken."""

    reason: str  # as it is counted
    error: ServeError


class Inbox:
    """The jobs that wait, as `FairQueue` says, another decoder to go over to, and whether to end."""

    def __init__(self, max_queue: int, max_wait: float):
        self._queue = FairQueue(max_queue, max_wait)
        self._build: BuildDecoder | None = None
        self.is_stopping = False  # no more jobs are taken: asked to stop, or no longer able to decode
        self._must_end = False  # those that were taken end with an error
        self._changed = Condition()  # guards all of these

    def __len__(self) -> int:
        """Texts that wait."""
        return len(self._queue)

    def add(self, job: Job) -> Rejection | None:
        with self._changed:
            if self.is_stopping:
                return Rejection("stopping", stopping())
            refusal = self._queue.refusal(len(job.requests))
            if refusal is not None:
                return Rejection("queue_full", refusal)
            self._queue.add(job)
            self._changed.notify()
        return None

    def replace_decoder(self, build: BuildDecoder) -> None:
        with self._changed:
            self._build = build
            self._changed.notify()

    def stop(self, *, must_end: bool) -> None:
        """Take no more jobs; those that were taken are decoded to their ends, unless they `must_end`."""
        with self._changed:
            self.is_stopping = True
            self._must_end |= must_end
            self._changed.notify()

    # The decode thread asks:

    def wait(self, *, is_running: bool) -> bool:
        """Wait until there is something to do, if nothing `is_running`; False once the thread is to end."""
        with self._changed:
            if not (is_running or self._has_work):
                self._changed.wait_for(lambda: self._has_work or self.is_stopping)
                self._queue.rate.restart()
            return (is_running or self._has_work) and not self._must_end

    @property
    def _has_work(self) -> bool:
        return not self._queue.is_empty or self._build is not None

    @property
    def jobs(self) -> set[Job]:
        """Those that have texts waiting."""
        with self._changed:
            return {*self._queue}

    def take_build(self) -> BuildDecoder | None:
        with self._changed:
            build, self._build = self._build, None
        return build

    def take(self, running: Counter[Job]) -> Text | None:
        """The next text, beside those that each job has running."""
        with self._changed:
            return self._queue.take(running)

    def wants_one_of(self, running: Counter[Job]) -> Job | None:
        """The job that has to pause a text for another in a full batch."""
        with self._changed:
            return self._queue.wants_one_of(running)

    def put_back(self, text: Text) -> None:
        with self._changed:
            self._queue.put_back(text)

    def remove(self, job: Job) -> None:
        with self._changed:
            self._queue.remove(job)

    def overdue(self) -> dict[Job, ServeError]:
        """What the jobs are told that have waited for too long."""
        with self._changed:
            return self._queue.overdue()

    def count_ended(self, num_texts: int) -> None:
        with self._changed:
            self._queue.rate.count(num_texts)
