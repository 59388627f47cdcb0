"""Every error leaves in one envelope, OpenAI's, wherever it was raised."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from ...controller.errors import InputError, SettingError
from .fields import NOT_SUPPORTED

# OpenAI's, by the types of faults.
CODES = {
    NOT_SUPPORTED: "unsupported_parameter",
    "extra_forbidden": "unsupported_parameter",
    "missing": "missing_required_parameter",
}
INVALID = "invalid_value"
WORDS = {"extra_forbidden": "not supported; leave it out", "missing": "is needed and was not given"}
MAX_NAME = 64  # characters of a field's name that are echoed


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    error: ErrorDetail


class ServeError(Exception):
    """Ends an answer: before its first byte with `status`, in a stream as its last event but one."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.envelope = ErrorEnvelope(error=ErrorDetail(message=message, type=kind, param=param, code=code))


def declared(*statuses: int, stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """What an endpoint's schema says of its answers other than a whole one; the framework adds nothing to it."""
    refused = [*statuses, "4XX", "5XX"]
    streamed: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}} if stream else {}
    return streamed | {status: {"model": ErrorEnvelope} for status in refused}


def error_answer(error: ServeError) -> JSONResponse:
    return JSONResponse(error.envelope.model_dump(), error.status, error.headers)


def busy(message: str, retry_s: int = 1) -> ServeError:
    """A 503 that says when to ask again."""
    return ServeError(HTTPStatus.SERVICE_UNAVAILABLE, message, headers={"Retry-After": str(retry_s)})


def stopping() -> ServeError:
    return busy("the server is stopping; ask again once it is back")


def departed() -> ServeError:
    """For the log alone, by nginx's status for it."""
    return ServeError(499, "the client has left")


def failure(message: str = "the server failed; its log says why") -> ServeError:
    return ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, message)


def refused(error: InputError, field: str | None = None) -> ServeError:
    """A 400 about the `field`, if one is given, or the setting that the error is of."""
    if not isinstance(error, SettingError):
        return ServeError(HTTPStatus.BAD_REQUEST, str(error), param=field)
    param = field or error.setting
    message = str(error) if param == error.setting else f"{param}: {error}"
    return ServeError(HTTPStatus.BAD_REQUEST, message, param=param, code=INVALID)


def install_error_handlers(app: FastAPI) -> None:
    """Put our errors and those of the framework into the envelope."""

    @app.exception_handler(ServeError)
    async def on_serve_error(_: Request, error: ServeError) -> JSONResponse:
        return error_answer(error)

    @app.exception_handler(InputError)
    async def on_input_error(_: Request, error: InputError) -> JSONResponse:
        return error_answer(refused(error))

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_answer(_invalid_body(error))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message, headers = error.detail, error.headers
        if error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            message = f"{message}; there are {', '.join(_routes(app))}"
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                methods = ", ".join(_methods(app, request))
                message, headers = f"{error.detail}; this path takes {methods}", {"Allow": methods}
        elif error.status_code == HTTPStatus.BAD_REQUEST:
            # The framework says no more than that it could not read the body.
            message = "the body is no JSON in UTF-8, or its numbers are too long, or it is nested too deeply"
        return error_answer(ServeError(error.status_code, message, headers=headers))


def _routes(app: FastAPI) -> list[str]:
    return [
        f"{method} {route.path_format}"
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in sorted({*(route.methods or ())} - {"HEAD"})
    ]


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Of all routes of the path; the framework names those of the first one."""
    routes = [
        route for route in app.routes if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE
    ]
    return sorted({method for route in routes for method in route.methods or ()})


def _invalid_body(error: RequestValidationError) -> ServeError:
    """The first fault in words. What was sent is not echoed: it may be huge, or not even be encodable."""
    fault = error.errors()[0]
    kind, where = fault["type"], fault["loc"][1:]
    if kind == "json_invalid":
        message = f"the body is no JSON at character {where[0]}: {fault['ctx']['error']}"
        return ServeError(HTTPStatus.BAD_REQUEST, message)
    names = _place(where, error.body)
    if not names:
        message = "the body has to be one JSON object, under the header `Content-Type: application/json`"
        return ServeError(HTTPStatus.BAD_REQUEST, message)
    message = f"{'.'.join(names)}: {WORDS.get(kind, fault['msg'])}"
    return ServeError(HTTPStatus.BAD_REQUEST, message, param=names[0], code=CODES.get(kind, INVALID))


def _place(where: Sequence[int | str], body: Any) -> list[str]:
    """The names and numbers that lead to a fault in the body; a location has those of members of unions as well."""
    names, value = list[str](), body
    for number, part in enumerate(where):
        if isinstance(value, list) and isinstance(part, int):
            names.append(str(part))
            value = value[part]
        elif isinstance(value, dict) and (part in value or number == len(where) - 1):
            names.append(_short(str(part)))
            value = value.get(part)
    return names


def _short(name: str) -> str:
    """A field's name as it can be shown: those that are not ours may be anything."""
    shown = name.encode("ascii", "backslashreplace").decode() or '""'
    return shown if len(shown) <= MAX_NAME else f"{shown[:MAX_NAME]}..."
