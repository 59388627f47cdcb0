"""The wire format of chats."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .fields import Fields, not_supported, only_with
from .protocol import AS_WHOLE, MAX_TOKENS, DecodingFields, NumTop, Usage
from .speculation_metrics import Measured

MAX_MESSAGES = 1024
MAX_CHARACTERS = 4 << 20  # of one part

MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS), AS_WHOLE]
Content = Annotated[str, Field(max_length=MAX_CHARACTERS)]  # measuring it also refuses half a surrogate pair


class TextPart(Fields):
    type: Literal["text"]
    text: Content


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    for kind in kinds:
        if isinstance(kind, str) and kind != "text":
            raise not_supported(f"of the parts only those of type 'text' are read, got {kind[:64]!a}; leave it out")
    return content


Parts = Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]


class Message(Fields):
    """One turn. What an assistant's message carries beside its text may be sent back empty."""

    neutral: ClassVar = {"tool_calls": [], "annotations": []}

    role: Literal["system", "user", "assistant"]
    content: Annotated[Parts, BeforeValidator(_as_parts, json_schema_input_type=Content | Parts)]

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content)


Messages = Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]


class ChatRequest(DecodingFields):
    """Body of POST /v1/chat/completions. A field that is null is not given.

    Fields that are not listed here are refused by name. `user`, `metadata`, `service_tier`, `store`,
    `safety_identifier` and `prompt_cache_key` cannot change the text and may be anything; what is not supported may be
    sent with the value that changes nothing.
    """

    conditions: ClassVar = (*DecodingFields.conditions, only_with("top_logprobs", "logprobs"))

    messages: Messages
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool = False
    top_logprobs: NumTop | None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_limit(cls, limit: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("max_tokens") not in (None, limit):
            raise PydanticCustomError("two_limits", "max_tokens says otherwise; give one of them")
        return limit

    @field_validator("top_logprobs")
    @classmethod
    def _beside_log_probs(cls, num_top: int | None, info: ValidationInfo) -> int | None:
        if num_top is not None and info.data.get("logprobs") is False:
            raise PydanticCustomError("idle", "they come with logprobs; set logprobs to true or leave them out")
        return num_top

    @property
    def num_log_probs(self) -> int | None:
        """As a decode request has it."""
        return (self.top_logprobs or 0) if self.logprobs else None


class Likely(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None  # none where the token alone is no text


class TokenLogProb(Likely):
    top_logprobs: list[Likely]


class ChatLogProbs(BaseModel):
    content: list[TokenLogProb]
    refusal: None = None


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: ChatLogProbs | None = None


class Chat(Measured):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class RoleDelta(BaseModel):
    """The first of a choice."""

    role: Literal["assistant"] = "assistant"
    content: Literal[""] = ""


class TextDelta(BaseModel):
    content: str


class ChatChunkChoice(BaseModel):
    index: int
    delta: RoleDelta | TextDelta
    finish_reason: str | None = None  # None in the chunks before a choice's last
    logprobs: ChatLogProbs | None = None


class ChatChunk(Measured):
    """One chunk of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
