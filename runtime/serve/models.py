"""What there is and whether it works: the model, health, readiness and the version."""

from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel

from .errors import ServeError, declared
from .protocol import Model, ModelList
from .served_model import ServedModel
from .worker import Worker


class Status(BaseModel):
    status: Literal["ok"] = "ok"


class Version(BaseModel):
    version: str


def add_models(app: FastAPI, worker: Worker, model: ServedModel) -> None:
    shown = Model(id=model.name, created=model.created, max_model_len=model.context_length)

    def get(path: str, *statuses: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A route for GET, and for HEAD beside it."""

        def add(answer: Callable[..., Any]) -> Callable[..., Any]:
            app.head(path, include_in_schema=False)(answer)
            return app.get(path, responses=declared(*statuses))(answer)

        return add

    @get("/health", 503)
    async def health() -> Status:
        """Whether the server works, be it busy."""
        if worker.is_stopping:
            raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping, or cannot go on")
        return Status()

    @get("/ready", 503)
    async def ready() -> Status:
        """Whether a request that is sent now would be decoded."""
        if not worker.is_ready:
            raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, "the server takes no requests yet, or no more")
        return Status()

    @get("/version")
    async def its_version() -> Version:
        return Version(version=version("treewright"))

    @get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[shown])

    @get("/v1/models/{model_id:path}", 404)
    async def model_of(model_id: str) -> Model:
        model.require_name(model_id)
        return shown
