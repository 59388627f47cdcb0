"""The longest body that is read; FastAPI's own limit answers in plain text, outside the error envelope."""

from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 4 << 20


class BodyLimit:
    """Middleware: reading on behind the limit raises a 413."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_bytes = 0

        async def receive_some() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                # Of all exceptions, only this one passes the framework's reading of the body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body holds up to {MAX_BODY_BYTES} bytes")
            return message

        await self._app(scope, receive_some, send)
