"""The application: its endpoints behind what every request passes."""

from http import HTTPStatus

from fastapi import FastAPI, HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answer import Answers
from .chat import add_chat
from .completions import add_completions
from .errors import install_error_handlers
from .models import add_models
from .request_log import RequestLog, WriteLine
from .schema import schema_of
from .served_model import ServedModel
from .tokens import add_tokens
from .worker import Worker

MAX_BODY_BYTES = 4 << 20


def create_app(worker: Worker, model: ServedModel, *, write_line: WriteLine | None = None) -> FastAPI:
    """The application over a running worker; `write_line` is given one per request."""
    # The pages that FastAPI makes of the schema load scripts from elsewhere; the schema itself stays.
    app = FastAPI(title="treewright", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog, write=write_line)  # the last one added is the outermost
    install_error_handlers(app)
    answers = Answers(worker)
    add_chat(app, answers, model)
    add_completions(app, answers, model)
    add_models(app, worker, model)
    add_tokens(app, model)
    app.openapi = lambda: schema_of(app, model)
    return app


class BodyLimit:
    """Middleware: reading on behind the limit raises a 413; FastAPI's own limit answers in plain text."""

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
