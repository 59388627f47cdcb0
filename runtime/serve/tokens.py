"""POST /tokenize and /detokenize, as vLLM words them."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, ClassVar

from fastapi import FastAPI
from pydantic import BaseModel, Field

from .chat_protocol import Messages
from .errors import ServeError, declared
from .fields import Fields
from .protocol import ModelName, Text
from .served_model import ServedModel
from .whole import TokenId


class TokenizeRequest(Fields):
    """A prompt or the messages of a chat, as a request to decode has them."""

    neutral: ClassVar = {"add_special_tokens": True, "add_generation_prompt": True, "continue_final_message": False}
    conditions: ClassVar = (
        {
            "oneOf": [
                {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "messages": {"type": "null"}}},
                {"required": ["messages"], "properties": {"messages": {"type": "array"}, "prompt": {"type": "null"}}},
            ]
        },
    )

    model: ModelName | None = None
    prompt: Text | None = None
    messages: Messages | None = None
    return_token_strs: bool = False


class TokenizeResponse(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(Fields):
    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


class DetokenizeResponse(BaseModel):
    prompt: str


def add_tokens(app: FastAPI, model: ServedModel) -> None:
    @app.post("/tokenize", responses=declared(400, 404, 413, 500))
    async def tokenize(body: TokenizeRequest) -> TokenizeResponse:
        model.require_name(body.model)
        token_ids = await asyncio.to_thread(_encode, body, model)
        return TokenizeResponse(
            count=len(token_ids),
            max_model_len=model.context_length,
            tokens=token_ids,
            token_strs=[model.spellings.get(token, "") for token in token_ids] if body.return_token_strs else None,
        )

    @app.post("/detokenize", responses=declared(400, 404, 413, 500))
    async def detokenize(body: DetokenizeRequest) -> DetokenizeResponse:
        """What the tokens show; special tokens show nothing."""
        model.require_name(body.model)
        model.require_known(body.tokens, "tokens")
        return DetokenizeResponse(prompt=await asyncio.to_thread(_decode, body.tokens, model))


def _encode(body: TokenizeRequest, model: ServedModel) -> list[int]:
    if body.prompt is not None and body.messages is None:
        return model.encode(body.prompt)
    if body.messages is not None and body.prompt is None:
        return model.encode_chat(body.messages)
    raise ServeError(HTTPStatus.BAD_REQUEST, "give either a prompt or messages", param="prompt", code="invalid_value")


def _decode(token_ids: Sequence[int], model: ServedModel) -> str:
    return model.token_texts.detokeniser.decode(token_ids) if token_ids else ""
