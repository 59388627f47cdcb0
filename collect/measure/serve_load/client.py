"""A client of a running server: streamed completions with the times at which they came, and the server's counters."""

import asyncio
import json
from collections.abc import Sequence
from time import perf_counter
from typing import Literal, NamedTuple

from httpx2 import AsyncClient, HTTPError, Limits
from prometheus_client.parser import text_string_to_metric_families

from ....controller.errors import InputError
from .asks import Ask

Speculation = Literal["off", "auto"]
Counters = dict[str, float]


class Answer(NamedTuple):
    """A streamed text; times in milliseconds from the request on."""

    text: str
    num_tokens: int
    first_ms: float  # until its first letters came
    whole_ms: float


class Client:
    """Asks one server, with as many connections as it takes; inside `async with client.http:`."""

    def __init__(self, address: str):
        self.http = AsyncClient(base_url=address, timeout=None, limits=Limits(max_connections=None))
        self._address = address

    async def model(self) -> str:
        """The name of the model that is served; InputError where there is no server of ours."""
        try:
            answer = await self.http.get("/v1/models")
            return str(answer.raise_for_status().json()["data"][0]["id"])
        except (HTTPError, ValueError, LookupError) as error:
            raise InputError(f"{self._address} serves no model ({error}); start `treewright serve` there") from error

    async def counters(self) -> Counters:
        """Every sample of /metrics that has no label, by its name without the prefix."""
        answer = await self.http.get("/metrics")
        families = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        return {sample.name.removeprefix("treewright_"): sample.value for sample in samples if not sample.labels}

    async def side_by_side(
        self, model: str, asks: Sequence[Ask], concurrency: int, speculation: Speculation
    ) -> list[Answer]:
        """The answers to all of `asks`, so many at a time: as soon as one has ended, its client asks the next."""
        waiting, answers = iter(enumerate(asks)), dict[int, Answer]()

        async def one_after_another() -> None:
            for number, ask in waiting:
                answers[number] = await self._answer(model, ask, speculation)

        await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
        return [answers[number] for number in range(len(asks))]

    async def _answer(self, model: str, ask: Ask, speculation: Speculation) -> Answer:
        body = {
            **ask._asdict(),
            "model": model,
            "speculation": speculation,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        text, num_tokens, first_ms = "", 0, None
        started = perf_counter()
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                raise InputError(f"{self._address} refuses a request: {(await response.aread()).decode()}")
            async for line in response.aiter_lines():
                content = line.removeprefix("data: ")
                if not content or content == "[DONE]":
                    continue
                event = json.loads(content)
                if "error" in event:
                    raise InputError(f"{self._address} ends a text: {event['error']['message']}")
                for choice in event["choices"]:
                    text += choice["text"]
                if first_ms is None and text:
                    first_ms = (perf_counter() - started) * 1e3
                if event.get("usage"):
                    num_tokens = event["usage"]["completion_tokens"]
        whole_ms = (perf_counter() - started) * 1e3
        return Answer(text, num_tokens, whole_ms if first_ms is None else first_ms, whole_ms)
