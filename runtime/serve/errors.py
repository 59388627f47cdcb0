"""Every error leaves in one envelope, OpenAI's, whoever raised it."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ...controller.errors import InputError


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    error: ErrorDetail


class ServeError(Exception):
    """Ends an answer: before its first byte with `status`, in a stream as its last event but one."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.envelope = ErrorEnvelope(error=ErrorDetail(message=message, type=kind, param=param, code=code))


def install_error_handlers(app: FastAPI) -> None:
    """Put our errors and those of the framework into the envelope."""

    @app.exception_handler(ServeError)
    async def on_serve_error(_: Request, error: ServeError) -> JSONResponse:
        busy = error.status == HTTPStatus.SERVICE_UNAVAILABLE
        return _answer(error, {"Retry-After": "1"} if busy else None)

    @app.exception_handler(InputError)
    async def on_input_error(_: Request, error: InputError) -> JSONResponse:
        return _answer(ServeError(HTTPStatus.BAD_REQUEST, str(error)))

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(_invalid_body(error))

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(ServeError(error.status_code, error.detail), error.headers)

    @app.exception_handler(Exception)
    async def on_failure(_: Request, error: Exception) -> JSONResponse:
        # The framework raises it again after this answer, and the server logs its traceback.
        return _answer(ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why"))


def _invalid_body(error: RequestValidationError) -> ServeError:
    """The first fault in words. What was sent is not echoed: it may be huge, or not even be encodable."""
    fault = error.errors()[0]
    field = next((part for part in fault["loc"][1:] if isinstance(part, str)), None)
    subject = field or "the body, one JSON object of type application/json"
    return ServeError(HTTPStatus.BAD_REQUEST, f"{subject}: {fault['msg']}", param=field)


def _answer(error: ServeError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error.envelope.model_dump(), error.status, headers)
