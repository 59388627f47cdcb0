"""What goes over the wire: OpenAI's text completions, with every number and length bounded."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from .fields import MAX_CHOICES, take_known

MAX_PROMPTS = 64
MAX_STOPS = 4


def _as_prompts(prompt: Any) -> Any:
    match prompt:
        case str() | [int(), *_]:
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


def _as_stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


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
Stops = Annotated[StopTexts, BeforeValidator(_as_stops, json_schema_input_type=StopText | StopTexts)]


def _as_whole(number: Any) -> Any:
    """JSON knows one kind of number: 16.0 is 16."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Whole = Annotated[int, BeforeValidator(_as_whole, json_schema_input_type=int)]


class Fields(BaseModel):
    """Fields that are all checked: null means that one is not given, and unknown ones are refused (see `fields`)."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _take_known(cls, body: Any) -> Any:
        return take_known(body, cls.model_fields)


class StreamOptions(Fields):
    include_usage: bool = False


class CompletionRequest(Fields):
    """Body of POST /v1/completions. A field that is null is not given.

    Fields that are not listed here are refused by name, but for `user`, `metadata`, `service_tier`, `store`,
    `safety_identifier` and `prompt_cache_key`, which cannot change the text, and for values that ask for nothing:
    `echo` false, `suffix` "", `best_of` as large as `n`, penalties of 0 (`repetition_penalty` 1), `min_p` 0 and the
    like.
    """

    model: str
    prompt: Prompts
    max_tokens: Whole = Field(16, ge=1, le=8192)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: Whole = Field(0, ge=-1)  # ours: 0 or -1 keeps every token
    n: Whole = Field(1, ge=1, le=MAX_CHOICES)
    stop: Stops = []
    seed: Annotated[Whole, Field(ge=-1, lt=2**63)] = -1  # -1 takes a random one
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    ignore_eos: bool = False  # ours: continue past the end-of-text token
    speculation: Literal["off", "auto"] = "auto"  # ours: draft nothing for it, or as the server was told


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
