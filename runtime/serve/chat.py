"""POST /v1/chat/completions."""

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from time import time

from fastapi import FastAPI, Request, Response

from .answer import Answers, decode_requests
from .chat_protocol import (
    AssistantMessage,
    Chat,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogProbs,
    ChatRequest,
    Likely,
    RoleDelta,
    TextDelta,
    TokenLogProb,
)
from .errors import declared
from .job import Piece
from .protocol import MAX_TOKENS, Usage
from .served_model import ServedModel
from .token_texts import TokenTexts, finite


def add_chat(app: FastAPI, answers: Answers, model: ServedModel) -> None:
    @app.post("/v1/chat/completions", response_model=Chat, responses=declared(400, 404, 413, 500, 503, stream=True))
    async def chat(body: ChatRequest, http: Request) -> Response:
        model.require_name(body.model)
        prompt_ids = await asyncio.to_thread(model.encode_chat, body.messages)
        # Where no limit is given, an answer may be as long as the context allows; at least one token is asked for.
        room = max(1, min(model.context_length - len(prompt_ids), MAX_TOKENS))
        max_tokens = body.max_tokens or body.max_completion_tokens or room
        requests = decode_requests(http, body, [prompt_ids], max_tokens, body.num_log_probs)
        wording = ChatWording(model)
        return await answers.give(
            http, body, requests, wording, num_prompt_tokens=len(prompt_ids), prompt_field="messages"
        )


class ChatWording:
    def __init__(self, model: ServedModel):
        self._texts = model.token_texts
        self._begun: set[int] = set()  # choices whose role has been said
        name, created = f"chatcmpl-{secrets.token_hex(12)}", int(time())
        self._chat = partial(Chat, id=name, created=created, model=model.name)
        self._chunk = partial(ChatChunk, id=name, created=created, model=model.name)

    def whole(self, pieces: Sequence[Piece], usage: Usage) -> Chat:
        choices = [
            ChatChoice(
                index=piece.choice,
                message=AssistantMessage(content=piece.text),
                finish_reason=str(piece.finish_reason),
                logprobs=_log_probs(piece, self._texts),
            )
            for piece in pieces
        ]
        return self._chat(choices=choices, usage=usage)

    def chunks(self, pieces: Sequence[Piece], usage: Usage | None) -> list[ChatChunk]:
        roles = [
            ChatChunkChoice(index=piece.choice, delta=RoleDelta())
            for piece in pieces
            if piece.choice not in self._begun
        ]
        self._begun.update(piece.choice for piece in pieces)
        texts = [
            ChatChunkChoice(
                index=piece.choice,
                delta=TextDelta(content=piece.text),
                finish_reason=piece.finish_reason,
                logprobs=_log_probs(piece, self._texts),
            )
            for piece in pieces
        ]
        opening = [self._chunk(choices=roles, usage=usage)] if roles else []
        return [*opening, self._chunk(choices=texts, usage=usage)]


def _log_probs(piece: Piece, texts: TokenTexts) -> ChatLogProbs | None:
    if piece.scored is None:
        return None
    content = [
        TokenLogProb(
            token=texts.of(each.token),
            logprob=finite(each.log_prob),
            bytes=texts.content(each.token),
            top_logprobs=[
                Likely(token=texts.of(token), logprob=finite(log_prob), bytes=texts.content(token))
                for token, log_prob in each.top
            ],
        )
        for each in piece.scored.of_text
    ]
    return ChatLogProbs(content=content)
