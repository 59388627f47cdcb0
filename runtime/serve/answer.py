"""From a request to its answer, whole or as server-sent events: decode, word, count."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Protocol

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ...controller.errors import InputError, SettingError
from ..constraints.constrain import Constrainer
from ..constraints.grammars.compiler import MOST_WAITING, CompilerBusyError
from ..constraints.grammars.trial import Limits
from ..request import ContextError
from ..request import Request as DecodeRequest
from ..sampling import Sampling
from .access import caller_of
from .errors import ServeError, busy, refused
from .job import Job, Piece
from .protocol import DecodingFields, StreamOptions, Usage
from .request_log import note_end
from .speculation_metrics import Measured, SpeculationCount
from .worker import Worker

MOST_LOG_PROBS = 1 << 18  # of an answer, 15 MB or more


class Wording(Protocol):
    """How an endpoint words the pieces of its texts."""

    def whole(self, pieces: Sequence[Piece], usage: Usage) -> Measured:
        """One piece per choice, which is all of it."""
        ...

    def chunks(self, pieces: Sequence[Piece], usage: Usage | None) -> Sequence[Measured]:
        """Those of some of a stream's pieces; none where it has ended and only the usage is left to say."""
        ...


class Answers:
    """Decodes what the endpoints ask for."""

    def __init__(self, worker: Worker, constrainer: Constrainer, *, measures: bool):
        """If it `measures`, the answers of single texts carry their `TextMetrics`."""
        self._measures = measures
        self._worker = worker
        self._constrainer = constrainer
        # One more than may wait, so that none waits for a thread; and tokenizing has others.
        self._grammars = ThreadPoolExecutor(MOST_WAITING + 1, thread_name_prefix="grammars")
        self._watchers: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive

    async def give(
        self,
        http: Request,
        body: DecodingFields,
        requests: Sequence[DecodeRequest],
        wording: Wording,
        *,
        num_prompt_tokens: int,
        prompt_field: str,
    ) -> Response:
        """The answer to a request, which a client that leaves cancels; ServeError where there is none."""
        count = SpeculationCount() if self._measures and len(requests) == 1 else None
        if count is not None:
            requests = [replace(request, observer=count) for request in requests]
        refusal = partial(_refusal, body, prompt_field)
        try:
            job = await self._worker.submit(await self._constrained(body, requests))
            watcher = asyncio.create_task(_cancel_when_client_leaves(http, job))
            self._watchers.add(watcher)
            watcher.add_done_callback(self._watchers.discard)
            answer = Answer(job, wording, num_prompt_tokens, count, refusal)
            if not body.stream:
                return Response(await answer.whole(), media_type="application/json")
            await job.begun()  # an error until then has its own status
        except InputError as error:
            raise refusal(error) from error
        return StreamingResponse(answer.events(http, body.stream_options), media_type="text/event-stream")

    async def _constrained(self, body: DecodingFields, requests: Sequence[DecodeRequest]) -> list[DecodeRequest]:
        """The requests under the body's constraints, which takes up to seconds for a grammar."""
        constraints = body.constraints

        constrained = partial(self._constrainer.constrained_alike, requests, constraints)
        threads = self._grammars if constraints.follows else None
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, constrained)
        except CompilerBusyError as error:
            seconds = round(Limits().most_seconds)  # by then one that waits now has been compiled or refused
            raise busy(f"other grammars are being compiled; try again in {seconds} s", seconds) from error


class Answer:
    """One job's texts in an endpoint's words."""

    def __init__(
        self,
        job: Job,
        wording: Wording,
        num_prompt_tokens: int,
        count: SpeculationCount | None,
        refusal: Callable[[InputError], ServeError],
    ):
        self._count = count
        self._refusal = refusal
        self._job = job
        self._wording = wording
        self._num_prompt_tokens = num_prompt_tokens
        self._num_tokens = [0] * len(job.requests)

    async def whole(self) -> str:
        """JSON. It is not made on the event loop, for with log-probabilities it may be of many megabytes."""
        pieces: list[list[Piece]] = [[] for _ in self._job.requests]
        async for piece in self._pieces():
            pieces[piece.choice].append(piece)
        return await asyncio.to_thread(self._worded, pieces)

    def _worded(self, pieces: Sequence[Sequence[Piece]]) -> str:
        whole = self._wording.whole([Piece.joined(each) for each in pieces], self._usage())
        return self._measured(whole).model_dump_json()

    async def events(self, http: Request, options: StreamOptions) -> AsyncIterator[str]:
        """Clients take a connection that just closes for the end of the text, so an error is an event too."""
        try:
            async for piece in self._pieces():
                usage = self._usage() if options.continuous_usage_stats else None
                for chunk in self._wording.chunks([piece], usage):
                    yield event(chunk)
            if options.include_usage:
                for chunk in self._wording.chunks([], self._usage()):
                    yield event(self._measured(chunk))
        except ServeError as error:
            note_end(http, error.status)
            yield event(error.envelope)
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[Piece]:
        try:
            async for piece in self._job.pieces():
                self._num_tokens[piece.choice] = piece.num_tokens
                yield piece
        except InputError as error:
            raise self._refusal(error) from error

    def _measured(self, answer: Measured) -> Measured:
        """With what speculation did, if that was counted."""
        answer.metrics = None if self._count is None else self._count.metrics
        return answer

    def _usage(self) -> Usage:
        return Usage.of(self._num_prompt_tokens, sum(self._num_tokens))


def _refusal(body: DecodingFields, prompt_field: str, error: InputError) -> ServeError:
    """What the client is told of an error, by the name of the field that it is of."""
    if isinstance(error, ContextError):
        code = "context_length_exceeded"
        return ServeError(HTTPStatus.BAD_REQUEST, str(error), param=prompt_field, code=code)
    if isinstance(error, SettingError):
        return refused(error, prompt_field if error.setting == "prompt" else body.field_of(error.setting))
    return refused(error)


def decode_requests(
    http: Request,
    body: DecodingFields,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    log_probs: int | None,
    *,
    prompt_log_probs: bool = False,
) -> list[DecodeRequest]:
    """For the `n` texts of each prompt; the same seed gives each prompt the texts it would have alone. ServeError where
    the answer would be too large."""
    if log_probs is not None:
        num_tokens = body.n * sum(max_tokens + (len(prompt) if prompt_log_probs else 0) for prompt in prompts)
        _require_few(num_tokens * (1 + log_probs))
    seed = secrets.randbelow(2**63) if body.seed < 0 else body.seed
    return [
        DecodeRequest(
            prompt_ids,
            max_tokens,
            Sampling(body.temperature, max(body.top_k, 0), body.top_p, seed, choice),
            tuple(body.stop),
            body.ignore_eos,
            log_probs=log_probs,
            prompt_log_probs=prompt_log_probs,
            speculates=body.speculation != "off",
            policy=None if isinstance(body.speculation, str) else body.speculation.policy,
            scope=caller_of(http),
        )
        for prompt_ids in prompts
        for choice in range(body.n)
    ]


def _require_few(num_log_probs: int) -> None:
    if num_log_probs > MOST_LOG_PROBS:
        message = (
            f"logprobs: up to {MOST_LOG_PROBS} of them fit an answer, and this one may have {num_log_probs}; ask for "
            "fewer, or for fewer or shorter texts"
        )
        raise ServeError(HTTPStatus.BAD_REQUEST, message, param="logprobs", code="invalid_value")


async def _cancel_when_client_leaves(http: Request, job: Job) -> None:
    # The body has been read, so the next message is the end of the connection, or of the answer.
    while (await http.receive())["type"] != "http.disconnect":
        pass
    job.cancelled.set()


def event(content: BaseModel) -> str:
    """As one server-sent event."""
    return f"data: {content.model_dump_json()}\n\n"
