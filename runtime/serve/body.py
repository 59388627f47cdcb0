"""Reads a request's body before anything looks at it: so many bytes at most, within so long, not nested too deep."""

import asyncio
import re
from http import HTTPStatus

import numpy as np
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ServeError, error_answer

MAX_BODY_BYTES = 4 << 20
MAX_NESTING = 64  # arrays and objects within each other
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # closed or not, so that every body takes linear time


class BodyReader:
    """Middleware: an application within it receives the body as one message."""

    def __init__(self, app: ASGIApp, read_timeout: float):
        self._app = app
        self._read_timeout = read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            body = await asyncio.wait_for(_read(scope, receive), self._read_timeout)
        except TimeoutError:
            message = f"the body did not come within {self._read_timeout:g} s; send it faster, or less of it"
            late = ServeError(HTTPStatus.REQUEST_TIMEOUT, message, headers={"Connection": "close"})
            return await error_answer(late)(scope, receive, send)
        except ServeError as error:
            return await error_answer(error)(scope, receive, send)
        if body is None:  # the client has left
            return None
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_read() -> Message:
            return messages.pop() if messages else await receive()

        return await self._app(scope, receive_read, send)


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None where the client leaves before its end, ServeError for one that is not to be parsed."""
    announced = Headers(scope=scope).get("content-length", "0")
    _check_size(int(announced) if announced.isdecimal() else 0)
    chunks, num_bytes, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        num_bytes += len(chunks[-1])
        _check_size(num_bytes)
        more = message.get("more_body", False)
    body = b"".join(chunks)
    if nesting(body) > MAX_NESTING:
        raise ServeError(HTTPStatus.BAD_REQUEST, f"the body is nested more than {MAX_NESTING} deep; flatten it")
    return body


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BODY_BYTES:
        raise ServeError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body holds up to {MAX_BODY_BYTES} bytes")


def nesting(body: bytes) -> int:
    """How deep a JSON text is nested; no more than what it opens, where that is little."""
    opened = body.count(b"[") + body.count(b"{")
    if opened <= MAX_NESTING:
        return opened
    letters = np.frombuffer(STRING.sub(b"", body), dtype=np.uint8)
    opens, closes = (np.isin(letters, np.frombuffer(pair, dtype=np.uint8)) for pair in (b"[{", b"]}"))
    return int((opens.astype(np.int32) - closes).cumsum(dtype=np.int32).max(initial=0))
