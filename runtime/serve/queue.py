"""The queue: texts that wait to be decoded. Requests take turns, so one of many texts keeps no other waiting."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from math import ceil
from time import monotonic

from .errors import ServeError, busy
from .job import Job, Text

WINDOW = 64  # the last texts whose ends say how fast texts end
LONGEST_RETRY = 60  # seconds; clients go by nothing longer


class FairQueue:
    """The jobs that have texts waiting; those that were served longest ago come first. Its owner's lock guards it.

    At most `max_texts` wait, or those of one job that has more, and no job that has begun none within `max_wait`
    seconds.
    """

    def __init__(self, max_texts: int, max_wait: float):
        self._max_texts = max_texts
        self._max_wait = max_wait
        self._waiting: dict[Job, deque[Text]] = {}
        self.rate = Rate()

    def __len__(self) -> int:
        """Texts that wait; those whose client has left do not count. Any thread may ask."""
        return sum(len(texts) for job, texts in [*self._waiting.items()] if not job.cancelled.is_set())

    def __iter__(self) -> Iterator[Job]:
        return iter([*self._waiting])

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def refusal(self, num_texts: int) -> ServeError | None:
        """What a request of so many texts is told where there is no room for it."""
        waiting = len(self)
        over = waiting + num_texts - self._max_texts
        if not waiting or over <= 0:
            return None
        retry_s = self.rate.seconds_for(over)
        return busy(f"the queue is full (texts that wait: {waiting}); try again in {retry_s} s", retry_s)

    def overdue(self) -> dict[Job, ServeError]:
        """What the jobs are told that have waited for too long."""
        latest = monotonic() - self._max_wait
        jobs = [job for job in self._waiting if job.submitted < latest and not job.has_begun]
        if not jobs:
            return {}
        retry_s = self.rate.seconds_for(len(self))
        message = f"waited for {self._max_wait:g} s behind other requests; try again in {retry_s} s"
        return {job: busy(message, retry_s) for job in jobs}

    def add(self, job: Job) -> None:
        self._waiting[job] = deque(Text(job, choice) for choice in range(len(job.requests)))

    def put_back(self, text: Text) -> None:
        """A text that was paused: the next of its job."""
        self._waiting.setdefault(text.job, deque()).appendleft(text)

    def remove(self, job: Job) -> None:
        self._waiting.pop(job, None)

    def take(self, running: Counter[Job]) -> Text | None:
        """The next text: of the job that has the fewest `running`, and of those of the one served longest ago."""
        if not self._waiting:
            return None
        job = min(self._waiting, key=running.__getitem__)
        texts = self._waiting.pop(job)
        text = texts.popleft()
        if texts:
            self._waiting[job] = texts  # behind the others
        return text

    def wants_one_of(self, running: Counter[Job]) -> Job | None:
        """The job that has to pause a text, because another waits without any in a full batch: the one that has most of
        the `running`, if more than one."""
        if not any(job not in running for job in self._waiting):
            return None
        job, count = running.most_common(1)[0]
        return job if count > 1 else None


class Rate:
    """How fast texts end, since the worker last had nothing to do."""

    def __init__(self, clock: Callable[[], float] = monotonic):
        self._clock = clock
        self._ends = deque([clock()], maxlen=WINDOW + 1)

    def restart(self) -> None:
        self._ends.clear()
        self._ends.append(self._clock())

    def count(self, num_texts: int) -> None:
        """So many texts have ended."""
        self._ends.extend([self._clock()] * num_texts)

    def seconds_for(self, num_texts: int) -> int:
        """In how many whole seconds so many more will have ended, at least 1 and at most LONGEST_RETRY."""
        per_text = (self._clock() - self._ends[0]) / max(1, len(self._ends) - 1)
        return min(max(1, ceil(num_texts * per_text)), LONGEST_RETRY)
