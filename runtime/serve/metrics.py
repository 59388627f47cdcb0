"""What the server counts, for Prometheus: vLLM's names with our prefix, and what is known of the trees.

A *request* in these names is one text, as in vLLM: a prompt with `n` of 3 makes three. Each that was accepted ends in
one of three ways: accepted = success + cancelled + failed.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ...controller.pricing.objective import Objective
from ..request import Request
from ..stats import StepRecord
from .job import Job, Text

REQUEST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
NODES = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16)


class Metrics:
    """Written by the decode thread, but for what is rejected and accepted; read by any."""

    def __init__(
        self,
        num_running: Callable[[], int],
        num_waiting: Callable[[], int],
        *,
        objective: Callable[[], Objective | None],
    ):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("num_requests_running", "Requests being decoded").set_function(num_running)
        self._gauge("num_requests_waiting", "Requests that wait for that").set_function(num_waiting)
        self._rejections = self._counter("admission_rejections", "Requests answered with 503 at once", "reason")
        self._accepted = self._counter("request_accepted", "Requests that were queued")
        self._success = self._counter("request_success", "Requests that came to their ends", "finished_reason")
        self._cancelled = self._counter("request_cancelled", "Requests whose client left before their ends")
        self._failed = self._counter("request_failed", "Requests that ended with an error", "reason")
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts; one with several texts counts once")
        self._generation_tokens = self._counter("generation_tokens", "Tokens generated")
        self._to_first_token = self._seconds("time_to_first_token_seconds", "From arrival to the first tokens")
        self._between = self._seconds("inter_token_latency_seconds", "Between two steps' tokens", STEP_SECONDS)
        self._to_end = self._seconds("e2e_request_latency_seconds", "From arrival to the end")
        self._queued = self._seconds("request_queue_time_seconds", "From arrival to the batch")
        self._steps = self._counter("decode_steps", "Decode steps; one of several requests counts for each")
        self._drafts = self._counter("spec_decode_num_drafts", "Those of them that drafted anything")
        self._drafted = self._counter("spec_decode_num_draft_tokens", "Nodes drafted, those not verified included")
        self._verified = self._counter("spec_decode_num_verified_tokens", "Drafted nodes that the target verified")
        self._taken = self._counter("spec_decode_num_accepted_tokens", "Drafted nodes accepted")
        name, what = "spec_decode_num_accepted_tokens_per_pos", "Drafted nodes accepted, by their depth less one"
        self._taken_at = self._counter(name, what, "position")
        self._nodes = self._histogram("tree_nodes", "Verified nodes of trees, without the root", NODES)
        self._depth = self._histogram("tree_depth", "Depth of verified trees", DEPTHS)
        self._prefill = self._seconds("prefill_seconds", "Reading prompts before a step of the batch", STEP_SECONDS)
        self._draft = self._seconds("draft_seconds", "Drafter forwards of a step", STEP_SECONDS)
        self._select = self._seconds("selector_seconds", "Shape decisions of a step", STEP_SECONDS)
        self._verify = self._seconds("verify_seconds", "Target forwards and verification of a step", STEP_SECONDS)

        self._find_objective, self._objective = objective, None
        self._expected = self._counter("selector_expected_tokens", "Accepted tokens that the selector expected")
        self._brought = self._counter("selector_accepted_tokens", "Accepted tokens of the same steps")
        self._num_expected = self._num_brought = 0.0  # of those, counted so far
        self._theta = self._gauge("theta", "Tokens per millisecond that the last step's nodes had to beat")

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"treewright_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"treewright_{name}", what, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"treewright_{name}", what, buckets=buckets, registry=self.registry)

    def _seconds(self, name: str, what: str, buckets: Sequence[float] = REQUEST_SECONDS) -> Histogram:
        return self._histogram(name, f"{what}, in seconds", buckets)

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

    def count_step(self, record: StepRecord) -> None:
        drafted, kept = record.drafted.num_nodes - 1, record.kept.num_nodes - 1
        accepted = record.verdict.accepted_lengths
        self._count_expected()
        self._steps.inc(len(kept))
        self._prefill.observe(record.read_ms / 1e3)
        self._select.observe(record.controller_ms / 1e3)
        self._verify.observe((record.target_ms + record.verify_ms + record.commit_ms) / 1e3)
        if not drafted.any():
            return
        self._draft.observe(record.draft_ms / 1e3)
        self._drafts.inc(int((drafted > 0).sum()))
        self._drafted.inc(int(drafted.sum()))
        self._verified.inc(int(kept.sum()))
        self._taken.inc(int(accepted.sum()))
        for position in range(int(accepted.max())):
            self._taken_at.labels(position).inc(int((accepted > position).sum()))
        for nodes, depth in zip(kept[drafted > 0], record.kept.depths.max(axis=1)[drafted > 0], strict=True):
            self._nodes.observe(nodes)
            self._depth.observe(depth)

    def _count_expected(self) -> None:
        """What the choice rule has added to its sums; those of another one begin at 0."""
        objective = self._find_objective()
        if objective is not self._objective:
            self._objective, self._num_expected, self._num_brought = objective, 0.0, 0.0
        if objective is not None:
            self._theta.set(objective.last_theta)
            self._expected.inc(objective.num_expected - self._num_expected)
            self._brought.inc(objective.num_accepted - self._num_brought)
            self._num_expected, self._num_brought = objective.num_expected, objective.num_accepted


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """The route that Prometheus asks."""

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
