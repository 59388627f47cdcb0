"""POST /v1/completions."""

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from time import time
from typing import NamedTuple

from fastapi import FastAPI, Request, Response

from ..log_probs import TokenLogProbs
from .answer import Answers, decode_requests
from .completion_protocol import Choice, Completion, CompletionRequest, LogProbs
from .errors import declared
from .job import Piece, ScoredTokens
from .protocol import Usage
from .served_model import ServedModel
from .token_texts import TokenTexts, finite


class Prompt(NamedTuple):
    token_ids: list[int]
    text: str  # as it is echoed, else empty
    starts: list[int]  # of its tokens in that text, where their log-probabilities are echoed too


def add_completions(app: FastAPI, answers: Answers, model: ServedModel) -> None:
    @app.post("/v1/completions", response_model=Completion, responses=declared(400, 404, 413, 500, 503, stream=True))
    async def complete(body: CompletionRequest, http: Request) -> Response:
        model.require_name(body.model)
        prompts = await asyncio.to_thread(_read_prompts, body, model)
        prompt_ids = [prompt.token_ids for prompt in prompts]
        reports_prompt = body.echo and body.logprobs is not None
        requests = decode_requests(
            http, body, prompt_ids, body.max_tokens, body.logprobs, prompt_log_probs=reports_prompt
        )
        wording = CompletionWording(body, prompts, model)
        num_prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        return await answers.give(
            http, body, requests, wording, num_prompt_tokens=num_prompt_tokens, prompt_field="prompt"
        )


def _read_prompts(body: CompletionRequest, model: ServedModel) -> list[Prompt]:
    prompts: list[Prompt] = []
    for prompt in body.prompt:
        token_ids = model.encode(prompt) if isinstance(prompt, str) else prompt
        model.require_known(token_ids, "prompt")
        text, starts = "", []
        if body.echo:
            text = prompt if isinstance(prompt, str) else model.token_texts.detokeniser.decode(token_ids)
            starts = [] if body.logprobs is None else model.token_texts.starts(token_ids)
        prompts.append(Prompt(token_ids, text, starts))
    return prompts


class CompletionWording:
    def __init__(self, body: CompletionRequest, prompts: Sequence[Prompt], model: ServedModel):
        self._body = body
        self._prompts = prompts
        self._texts = model.token_texts
        self._begun: set[int] = set()  # choices that have been sent a piece of
        self._completion = partial(
            Completion, id=f"cmpl-{secrets.token_hex(12)}", created=int(time()), model=model.name
        )

    def whole(self, pieces: Sequence[Piece], usage: Usage | None) -> Completion:
        return self._completion(choices=[self._choice(piece) for piece in pieces], usage=usage)

    def chunks(self, pieces: Sequence[Piece], usage: Usage | None) -> list[Completion]:
        return [self.whole(pieces, usage)]

    def _choice(self, piece: Piece) -> Choice:
        prompt, is_first = self._prompts[piece.choice // self._body.n], piece.choice not in self._begun
        self._begun.add(piece.choice)
        log_probs = None
        if piece.scored is not None:
            log_probs = _log_probs(prompt, piece.scored, self._texts, echoes=self._body.echo and is_first)
        return Choice(
            index=piece.choice,
            text=prompt.text + piece.text if is_first else piece.text,
            finish_reason=piece.finish_reason,
            logprobs=log_probs,
        )


def _log_probs(prompt: Prompt, scored: ScoredTokens, texts: TokenTexts, *, echoes: bool) -> LogProbs:
    """Of a piece's tokens, behind those of the prompt if it `echoes` it; offsets count from where the choice begins."""
    offset, each = len(prompt.text), [*scored.of_text]
    log_probs = LogProbs(text_offset=[], tokens=[], token_logprobs=[], top_logprobs=[])
    if echoes:
        # Nothing comes before the first token, so it has none.
        log_probs.text_offset = [min(start, offset) for start in prompt.starts]
        log_probs.tokens = [texts.of(prompt.token_ids[0])]
        log_probs.token_logprobs, log_probs.top_logprobs = [None], [None]
        each = [*scored.of_prompt, *each]
    log_probs.text_offset += [offset + start for start in scored.starts]
    log_probs.tokens += [texts.of(token.token) for token in each]
    log_probs.token_logprobs += [finite(token.log_prob) for token in each]
    log_probs.top_logprobs += [_likeliest(token, texts) for token in each]
    return log_probs


def _likeliest(token: TokenLogProbs, texts: TokenTexts) -> dict[str, float]:
    """The token itself among them; of several that show the same, the likeliest counts."""
    by_text: dict[str, float] = {}
    for other, log_prob in (*token.top, (token.token, token.log_prob)):
        by_text.setdefault(texts.of(other), finite(log_prob))
    return by_text
