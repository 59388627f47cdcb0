"""What goes over the wire: OpenAI's fields that completions and chats share, with every number and length bounded."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .constraints import ConstraintFields
from .fields import BodyFields, Fields, only_with
from .speculation import Speculation
from .whole import AS_WHOLE

# Titles by which `schema` finds what depends on the model.
MODEL_NAME = "Name of the model"

MAX_CHOICES = 8  # texts for one prompt
MAX_STOPS = 4
MAX_TOKENS = 8192
MAX_TOP = 20  # likeliest tokens beside each


def _as_stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


ModelName = Annotated[str, Field(title=MODEL_NAME)]
NumChoices = Annotated[int, Field(ge=1, le=MAX_CHOICES), AS_WHOLE]
NumTop = Annotated[int, Field(ge=0, le=MAX_TOP), AS_WHOLE]
Text = Annotated[str, Field(min_length=1)]  # measuring it also refuses half a surrogate pair, which is no text
StopText = Annotated[Text, Field(max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=MAX_STOPS)]
Stops = Annotated[StopTexts, BeforeValidator(_as_stops, json_schema_input_type=StopText | StopTexts)]


class StreamOptions(Fields):
    include_usage: bool = False
    continuous_usage_stats: bool = False  # vLLM's: the usage so far in every chunk


class DecodingFields(ConstraintFields, BodyFields):
    """What both kinds of texts may ask for."""

    conditions: ClassVar = (only_with("stream_options", "stream"),)

    model: ModelName
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: Annotated[int, Field(ge=-1), AS_WHOLE] = 0  # ours: 0 or -1 keeps every token
    n: NumChoices = 1
    stop: Stops = Field([])
    seed: Annotated[int, Field(ge=-1, lt=2**63), AS_WHOLE] = -1  # -1 takes a random one
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    ignore_eos: bool = False  # ours: continue past the end-of-text token
    speculation: Speculation = "auto"  # ours

    @field_validator("stream_options")
    @classmethod
    def _of_a_stream(cls, options: StreamOptions, info: ValidationInfo) -> StreamOptions:
        if info.data.get("stream") is False:
            raise PydanticCustomError("idle", "they are of a stream; set stream to true or leave them out")
        return options


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> "Usage":
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "treewright"
    max_model_len: int  # vLLM's: tokens of prompt and text together


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
