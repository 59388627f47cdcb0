"""What is counted of requests. A *request* is one text, as in vLLM: a prompt with `n` of 3 makes three. Each that was
accepted ends in one of three ways: accepted = success + cancelled + failed."""

from collections.abc import Callable, Sequence
from time import monotonic

from ...request import Request
from ..job import Job, Text
from .series import STEP_SECONDS, Series


class RequestMetrics:
    """Written by the decode thread, but for what is rejected and accepted."""

    def __init__(self, series: Series, num_running: Callable[[], int], num_waiting: Callable[[], int]):
        series.gauge("num_requests_running", "Requests being decoded").set_function(num_running)
        series.gauge("num_requests_waiting", "Requests that wait for that").set_function(num_waiting)
        self._rejections = series.counter("admission_rejections", "Requests answered with 503 at once", "reason")
        self._accepted = series.counter("request_accepted", "Requests that were queued")
        self._success = series.counter("request_success", "Requests that came to their ends", "finished_reason")
        self._cancelled = series.counter("request_cancelled", "Requests whose client left before their ends")
        self._failed = series.counter("request_failed", "Requests that ended with an error", "reason")
        what = "Tokens of prompts; one with several texts counts once"
        self._prompt_tokens = series.counter("prompt_tokens", what)
        self._generation_tokens = series.counter("generation_tokens", "Tokens generated")
        self._to_first_token = series.seconds("time_to_first_token_seconds", "From arrival to the first tokens")
        self._between = series.seconds("inter_token_latency_seconds", "Between two steps' tokens", STEP_SECONDS)
        self._to_end = series.seconds("e2e_request_latency_seconds", "From arrival to the end")
        self._queued = series.seconds("request_queue_time_seconds", "From arrival to the batch")

    def reject(self, requests: Sequence[Request], reason: str) -> None:
        self._rejections.labels(reason).inc(len(requests))

    def accept(self, job: Job) -> None:
        self._accepted.inc(len(job.requests))

    def begin(self, text: Text) -> None:
        """A text is decoded from now on; again where it was paused."""
        if text.begun is None:
            text.begun = monotonic()
            self._queued.observe(text.begun - text.job.submitted)
            if text.request.sampling.choice == 0:
                self._prompt_tokens.inc(len(text.request.prompt_ids))

    def count_tokens(self, text: Text) -> None:
        """What a step has added to a text."""
        num_new = len(text.stream.token_ids) - text.num_counted
        if not num_new:
            return
        now = monotonic()
        if text.num_counted:
            self._between.observe(now - text.counted)
        else:
            self._to_first_token.observe(now - text.job.submitted)
        self._generation_tokens.inc(num_new)
        text.counted, text.num_counted = now, text.num_counted + num_new

    def finish(self, text: Text) -> None:
        self._success.labels(text.stream.finish_reason).inc()
        self._to_end.observe(monotonic() - text.job.submitted)

    def abandon(self, job: Job, reason: str) -> None:
        """The texts of a job that have not ended never do."""
        num_left = sum(stream.finish_reason is None for stream in job.streams)
        if reason == "cancelled":
            self._cancelled.inc(num_left)
        else:
            self._failed.labels(reason).inc(num_left)
