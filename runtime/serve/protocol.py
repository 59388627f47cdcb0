"""What goes over the wire: OpenAI's text completions, with every number and length bounded."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

MAX_PROMPTS = 64
MAX_STOPS = 4


def _as_prompts(prompt: Any) -> Any:
    match prompt:
        case str() | [int(), *_]:
            return [prompt]
    return prompt


def _prompt_kind(prompts: Any) -> str | None:
    """The one member of the union to check, so that an error speaks of what was sent."""
    match prompts:
        case [str(), *_]:
            return "texts"
        case [list(), *_]:
            return "token_ids"
    return None


def _as_stops(stop: Any) -> Any:
    return [] if stop is None else [stop] if isinstance(stop, str) else stop


Text = Annotated[str, Field(min_length=1)]  # measuring it also refuses half a surrogate pair, which is no text
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Texts = Annotated[list[Text], Field(max_length=MAX_PROMPTS)]
TokenIdLists = Annotated[list[TokenIds], Field(max_length=MAX_PROMPTS)]
Prompts = Annotated[
    Annotated[Texts, Tag("texts")] | Annotated[TokenIdLists, Tag("token_ids")],
    Discriminator(
        _prompt_kind,
        custom_error_type="prompt_kind",
        custom_error_message="give a text, a list of texts, a list of token ids or a list of such lists, not empty",
    ),
    BeforeValidator(_as_prompts, json_schema_input_type=Text | Texts | TokenIds | TokenIdLists),
]
StopText = Annotated[Text, Field(max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=MAX_STOPS)]
Stops = Annotated[StopTexts, BeforeValidator(_as_stops, json_schema_input_type=StopText | StopTexts | None)]


def _only(neutral: Any) -> BeforeValidator:
    """For a field of other servers that would change the law of the text: refused where it does."""

    def check(value: Any) -> Any:
        if value not in (None, neutral):
            raise ValueError(f"only {neutral!r} is supported, which changes nothing; leave it out")
        return neutral

    return BeforeValidator(check)


NoPenalty = Annotated[float | None, _only(0)]
NoFactor = Annotated[float | None, _only(1)]
NoBias = Annotated[dict[str, float] | None, _only({})]


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True)

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """Body of POST /v1/completions. Unknown fields are ignored: clients send many that change nothing here.

    What would change logits by the path that led to them is refused by name: no text may be drawn as if it had not been
    asked for.
    """

    model_config = ConfigDict(strict=True)

    model: str
    prompt: Prompts
    max_tokens: int = Field(16, ge=1, le=8192)
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: int = Field(0, ge=0)  # ours: 0 keeps every token
    n: int = Field(1, ge=1, le=8)
    stop: Stops = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False  # ours: go on past the end-of-text token
    presence_penalty: NoPenalty = None
    frequency_penalty: NoPenalty = None
    repetition_penalty: NoFactor = None
    min_p: NoPenalty = None
    logit_bias: NoBias = None


class Choice(BaseModel):
    index: int
    text: str
    finish_reason: str | None  # None in the chunks before a choice's last
    logprobs: None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A whole answer, or one chunk of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "treewright"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
