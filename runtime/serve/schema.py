"""The schema that clients are shown, which knows the model: its name and its largest token id."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from .protocol import MODEL_NAME
from .served_model import ServedModel
from .whole import TOKEN_ID


def schema_of(app: FastAPI, model: ServedModel) -> dict[str, Any]:
    schema = FastAPI.openapi(app)  # made once and kept there
    for part in _parts(schema["components"]["schemas"]):
        if part.get("title") == MODEL_NAME:
            part["enum"] = [model.name]
        elif part.get("title") == TOKEN_ID:
            part["maximum"] = model.vocabulary_size - 1
    return schema


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects in it."""
    if isinstance(schema, dict):
        yield schema
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for each in inner:
        yield from _parts(each)
