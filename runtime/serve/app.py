"""The routes: completions, whole or streamed as server-sent events, the list of models, and health."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus
from time import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ..request import Request as DecodeRequest
from ..sampling import Sampling
from .access import Access
from .body import BodyReader
from .errors import ErrorEnvelope, ServeError, install_error_handlers
from .job import Job
from .metrics import add_metrics
from .protocol import Choice, Completion, CompletionRequest, Model, ModelList, Usage
from .worker import Worker

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorEnvelope}, "5XX": {"model": ErrorEnvelope}}


def create_app(
    worker: Worker,
    encode: Callable[[str], list[int]],
    *,
    vocabulary_size: int,
    model_name: str,
    access: Access = Access(),
    read_timeout: float = 30.0,
) -> FastAPI:
    """The application over a running worker; `encode` turns a text into token ids below `vocabulary_size`, and a body
    has `read_timeout` seconds to come."""
    # The pages that FastAPI makes of the schema load scripts from elsewhere; the schema itself stays.
    app = FastAPI(title="treewright", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(BodyReader, read_timeout=read_timeout)  # the last one added is the outermost
    access.guard(app)
    install_error_handlers(app)
    add_metrics(app, worker.metrics)
    model = Model(id=model_name, created=int(time()))
    watchers: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        if worker.is_stopping:
            raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping, or cannot go on")
        return {"status": "ok"}

    @app.head("/v1/models", include_in_schema=False)
    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[model])

    @app.head("/v1/models/{model_id:path}", include_in_schema=False)
    @app.get("/v1/models/{model_id:path}")
    async def model_of(model_id: str) -> Model:
        _check_model(model_id, model)
        return model

    @app.post("/v1/completions", response_model=Completion, responses=ERRORS)
    async def complete(body: CompletionRequest, http: Request) -> Completion | StreamingResponse:
        _check_model(body.model, model)
        prompts = await asyncio.to_thread(_token_ids, body, encode, vocabulary_size)
        job = await worker.submit(_decode_requests(body, prompts))
        watcher = asyncio.create_task(_cancel_when_client_leaves(http, job))
        watchers.add(watcher)
        watcher.add_done_callback(watchers.discard)
        answer = Answer(job, model.id, sum(map(len, prompts)))
        if not body.stream:
            return await answer.whole()
        await job.begun()  # an error until then has its own status
        return StreamingResponse(answer.events(body.stream_options.include_usage), media_type="text/event-stream")

    return app


class Answer:
    """One job's texts in the wire's words."""

    def __init__(self, job: Job, model_name: str, num_prompt_tokens: int):
        self._job = job
        self._num_prompt_tokens = num_prompt_tokens
        self._completion = partial(
            Completion, id=f"cmpl-{secrets.token_hex(12)}", created=int(time()), model=model_name
        )

    async def whole(self) -> Completion:
        async for _ in self._job.pieces():
            pass  # the streams hold the texts
        choices = [
            Choice(index=index, text=stream.text, finish_reason=stream.finish_reason)
            for index, stream in enumerate(self._job.streams)
        ]
        return self._completion(choices=choices, usage=self._usage())

    async def events(self, include_usage: bool) -> AsyncIterator[str]:
        """Clients take a connection that just closes for the end of the text, so an error is an event too."""
        try:
            async for piece in self._job.pieces():
                choice = Choice(index=piece.choice, text=piece.text, finish_reason=piece.finish_reason)
                yield _event(self._completion(choices=[choice]))
            if include_usage:
                yield _event(self._completion(choices=[], usage=self._usage()))
        except ServeError as error:
            yield _event(error.envelope)
        yield "data: [DONE]\n\n"

    def _usage(self) -> Usage:
        prompt, completion = self._num_prompt_tokens, self._job.num_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def _check_model(name: str, model: Model) -> None:
    if name != model.id:
        raise ServeError(
            HTTPStatus.NOT_FOUND, f"the one model here is {model.id!r}", param="model", code="model_not_found"
        )


def _token_ids(body: CompletionRequest, encode: Callable[[str], list[int]], vocabulary_size: int) -> list[list[int]]:
    prompts = [encode(prompt) if isinstance(prompt, str) else prompt for prompt in body.prompt]
    largest = max(max(prompt, default=0) for prompt in prompts)
    if largest >= vocabulary_size:
        message = f"prompt: the largest token id of this model is {vocabulary_size - 1}, and a larger one was given"
        raise ServeError(HTTPStatus.BAD_REQUEST, message, param="prompt")
    return prompts


def _decode_requests(body: CompletionRequest, prompts: list[list[int]]) -> list[DecodeRequest]:
    """`n` texts for every prompt; the same seed gives each prompt the texts it would have alone."""
    seed = secrets.randbelow(2**63) if body.seed < 0 else body.seed
    top_k = max(body.top_k, 0)
    samplings = [Sampling(body.temperature, top_k, body.top_p, seed, choice) for choice in range(body.n)]
    return [
        DecodeRequest(
            prompt,
            body.max_tokens,
            sampling,
            tuple(body.stop),
            body.ignore_eos,
            speculates=body.speculation == "auto",
        )
        for prompt in prompts
        for sampling in samplings
    ]


async def _cancel_when_client_leaves(http: Request, job: Job) -> None:
    # The body has been read, so the next message is the end of the connection, or of the answer.
    while (await http.receive())["type"] != "http.disconnect":
        pass
    job.cancelled.set()


def _event(content: BaseModel) -> str:
    return f"data: {content.model_dump_json()}\n\n"
