"""The wire format of text completions."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from .fields import not_supported
from .protocol import MAX_CHOICES, MAX_TOKENS, DecodingFields, NumChoices, NumTop, Text, Usage
from .speculation_metrics import Measured
from .whole import AS_WHOLE, TokenId

MAX_PROMPTS = 64


def _as_prompts(prompt: Any) -> Any:
    match prompt:
        case str() | [int() | float(), *_]:
            return [prompt]
    return prompt


def _prompt_kind(prompts: Any) -> str | None:
    """The one member of the union to check, so that an error names what was sent."""
    match prompts:
        case [str(), *_]:
            return "texts"
        case [list(), *_]:
            return "token_ids"
    return None


# Checked up to the first fault, for a body has room for millions.
TokenIds = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
TokenIdLists = Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
Prompts = Annotated[
    Annotated[Texts, Tag("texts")] | Annotated[TokenIdLists, Tag("token_ids")],
    Discriminator(
        _prompt_kind,
        custom_error_type="prompt_kind",
        custom_error_message="give a text, a list of texts, a list of token ids or a list of such lists, not empty",
    ),
    BeforeValidator(_as_prompts, json_schema_input_type=Text | Texts | TokenIds | TokenIdLists),
]


def _best_of_as_many(count: int) -> dict[str, Any]:
    """The condition that `n` is `count` where `best_of` is."""
    is_count = {"required": ["best_of"], "properties": {"best_of": {"const": count}}}
    as_many = {"required": ["n"], "properties": {"n": {"const": count}}}
    return {"if": is_count, "then": as_many if count > 1 else {"properties": {"n": {"enum": [1, None]}}}}


class CompletionRequest(DecodingFields):
    """Body of POST /v1/completions. A field that is null is not given.

    Fields that are not listed here are refused by name. `user`, `metadata`, `service_tier`, `store`,
    `safety_identifier` and `prompt_cache_key` cannot change the text and may be anything; what is not supported may be
    sent with the value that changes nothing.
    """

    conditions: ClassVar = (*DecodingFields.conditions, *map(_best_of_as_many, range(1, MAX_CHOICES + 1)))

    prompt: Prompts
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS), AS_WHOLE] = 16
    echo: bool = False
    logprobs: NumTop | None = None
    best_of: NumChoices | None = None

    @field_validator("best_of")
    @classmethod
    def _as_many_as_asked_for(cls, best_of: int | None, info: ValidationInfo) -> int | None:
        if best_of is not None and best_of != info.data.get("n"):
            raise not_supported("not supported; leave it out (the same as n is taken, for it changes nothing)")
        return best_of


class LogProbs(BaseModel):
    """Of the tokens of a choice, in parallel lists; null for the first token of an echoed prompt."""

    text_offset: list[int]
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


class Choice(BaseModel):
    index: int
    text: str
    finish_reason: str | None  # None in the chunks before a choice's last
    logprobs: LogProbs | None = None


class Completion(Measured):
    """A whole answer, or one chunk of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
