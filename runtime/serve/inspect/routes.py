"""The routes of `/inspect`: the page, and the steps of one generation as server-sent events.

An inspected generation is a request like others: it waits in the worker's queue, shares its batch, and gets the text of
its seed. Its steps are seen by an observer of its own, so that a server that nobody inspects does nothing more.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...request import Request
from ...sampling import Sampling
from ...stats import StepRecord
from ..access import caller_of
from ..answer import event
from ..errors import ServeError, declared
from ..job import Job
from ..protocol import Usage
from ..served_model import ServedModel
from ..worker import Worker
from .events import Begin, End, InspectRequest
from .page import inspect_page
from .steps import StepTeller


def add_inspect(app: FastAPI, worker: Worker, model: ServedModel) -> None:
    @app.head("/inspect", include_in_schema=False)
    @app.get("/inspect", include_in_schema=False)
    async def page() -> HTMLResponse:
        html, headers = inspect_page()
        return HTMLResponse(html, headers=headers)

    @app.post(
        "/inspect/steps",
        response_class=StreamingResponse,
        response_description="Events: begin, step, ..., and end or an error",
        responses=declared(stream=True),
    )
    async def steps(body: InspectRequest, http: HttpRequest) -> StreamingResponse:
        prompt_ids = await asyncio.to_thread(model.encode, body.prompt)
        seed = secrets.randbelow(2**53) if body.seed < 0 else body.seed  # which a page can read and send back
        sampling = Sampling(body.temperature, 0, body.top_p, seed)
        seen: deque[tuple[StepRecord, int]] = deque()
        request = Request(
            prompt_ids, body.max_tokens, sampling, observer=lambda *step: seen.append(step), scope=caller_of(http)
        )
        job, parts = await worker.submit([request]), worker.decoder.parts
        begin = Begin(
            model=model.name,
            prompt_tokens=len(prompt_ids),
            temperature=body.temperature,
            top_p=body.top_p,
            seed=seed,
            scheme=parts.scheme,
            verifier=parts.verifier,
        )
        await job.begun()  # an error until then has its own status
        return JobStream(job, _events(begin, job, seen, StepTeller(parts, prompt_ids)))


class JobStream(StreamingResponse):
    """Cancels its job when it ends: the client may have left."""

    def __init__(self, job: Job, content: AsyncIterator[str]):
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancelled.set()


async def _events(
    begin: Begin, job: Job, seen: deque[tuple[StepRecord, int]], teller: StepTeller
) -> AsyncIterator[str]:
    """`seen` are the steps that the decode thread has taken and nobody was told yet. Each comes there before its piece
    of the text, and one that decides no text is told with the next."""
    yield event(begin)
    try:
        async for _ in job.pieces():
            while seen:
                yield event(teller.step(*seen.popleft()))
        yield event(_end(job, begin.prompt_tokens))
    except ServeError as error:
        yield event(error.envelope)


def _end(job: Job, prompt_tokens: int) -> End:
    (stream,) = job.streams
    assert stream.finish_reason is not None, "the job has ended"
    usage = Usage.of(prompt_tokens, job.num_tokens)
    return End(text=stream.text, finish_reason=stream.finish_reason, usage=usage)
