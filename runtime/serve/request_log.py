"""A name for every request, which its answer carries, and a line when it has been answered."""

import logging
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_answer, failure
from .log import when

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ENDED = "ended"  # of a request's state
MAX_PATH = 200  # characters that are shown

WriteLine = Callable[[str], None]


def note_end(http: Request, status: int) -> None:
    """An answer that has begun ends with an error, which would have had this status."""
    setattr(http.state, ENDED, f" (ended with {status})")


class RequestLog:
    """The outermost middleware: what fails within is logged under the request's name, and answered in the envelope.

    A line says when, who, what, the status, the seconds until the last byte, and the name; nothing of the body. Of an
    answer that has begun it says how it ended otherwise.
    """

    def __init__(self, app: ASGIApp, write: WriteLine | None):
        self._app = app
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if SANE.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        begun, status, is_whole = perf_counter(), 0, False

        async def send_named(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:  # no request may be left without an answer
            log.exception("request %s failed", request_id)
            if status:  # too late for another answer; the server cuts the connection
                raise
            await error_answer(failure())(scope, receive, send_named)
        finally:
            if self._write is not None:
                seconds = f"{perf_counter() - begun:.3f} s"
                ended = scope.get("state", {}).get(ENDED, "") if is_whole else " (cut off)"
                self._write(f"{_what(scope)} {status or '-'} {seconds}{ended} {request_id}")


def _what(scope: Scope) -> str:
    """When, who and what; the path as it was sent, in which nothing breaks a line."""
    client = scope.get("client")
    path = scope.get("raw_path", scope["path"].encode()).decode("ascii", "backslashreplace")[:MAX_PATH]
    return f"{when(datetime.now(UTC))} {client[0] if client else '-'} {scope['method']} {ascii(path)[1:-1]}"
