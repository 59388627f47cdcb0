"""The fields of a request that constrain its texts, as OpenAI and vLLM name them."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ...controller.errors import SettingError
from ..constraints.grammars.source import MOST_LETTERS
from ..constraints.settings import (
    MOST_BIAS,
    MOST_BIASES,
    MOST_PENALTY,
    MOST_REPETITION,
    MOST_WORDS,
    Constraints,
)
from .whole import AS_WHOLE, TokenId

MOST_TOKENS = 1024  # ids in a list
MOST_CHOICES = 1024
ANY_OBJECT = {"type": "object"}


def _require_few(biases: Any) -> Any:
    """A body has room for a hundred thousands of them, whose faults would be gathered one by one."""
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        raise PydanticCustomError("too_long", "up to {most} tokens are taken", {"most": MOST_BIASES})
    return biases


TokenIds = Annotated[list[TokenId], Field(max_length=MOST_TOKENS)]
BiasedToken = Annotated[str, StringConstraints(pattern="^(0|[1-9][0-9]{0,9})$")]
Bias = Annotated[float, Field(ge=-MOST_BIAS, le=MOST_BIAS, allow_inf_nan=False)]
Biases = Annotated[dict[BiasedToken, Bias], Field(max_length=MOST_BIASES), BeforeValidator(_require_few)]
Penalty = Annotated[float, Field(ge=-MOST_PENALTY, le=MOST_PENALTY, allow_inf_nan=False)]
Word = Annotated[str, Field(min_length=1, max_length=256)]
Choices = Annotated[list[Word], Field(min_length=1, max_length=MOST_CHOICES)]
Source = Annotated[str, Field(max_length=MOST_LETTERS)]
Schema = dict[str, Any]
SchemaOrText = Schema | Source


class Part(BaseModel):
    """An object inside a request; other fields than these are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


class TextFormat(Part):
    type: Literal["text"]


class JsonObjectFormat(Part):
    type: Literal["json_object"]


class NamedSchema(Part):
    schema_: Schema = Field(alias="schema")
    name: str | None = Field(None, max_length=256)
    description: str | None = None
    strict: bool | None = None  # it always is


class JsonSchemaFormat(Part):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Part):
    """vLLM's; one of them is given."""

    json_: SchemaOrText | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: Source | None = None
    choice: Choices | None = None
    grammar: Source | None = None


class ConstraintFields(BaseModel):
    """What requests for texts inherit."""

    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, gt=0, le=MOST_REPETITION, allow_inf_nan=False)
    logit_bias: Biases = {}
    min_p: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    min_tokens: Annotated[int, Field(ge=0), AS_WHOLE] = 0
    bad_words: Annotated[list[Word], Field(max_length=MOST_WORDS)] = []
    allowed_token_ids: Annotated[TokenIds, Field(min_length=1)] | None = None
    stop_token_ids: TokenIds = []
    response_format: ResponseFormat = TextFormat(type="text")
    structured_outputs: StructuredOutputs = StructuredOutputs()
    guided_json: SchemaOrText | None = None
    guided_regex: Source | None = None
    guided_choice: Choices | None = None
    guided_grammar: Source | None = None

    @property
    def constraints(self) -> Constraints:
        """SettingError for what does not go together."""
        return Constraints(
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            allowed_token_ids=tuple(self.allowed_token_ids or ()),
            bad_words=tuple(self.bad_words),
            min_tokens=self.min_tokens,
            stop_token_ids=tuple(self.stop_token_ids),
            min_p=self.min_p,
            **self._grammar(),
        )

    def field_of(self, setting: str) -> str:
        """The field that gave a setting of the constraints."""
        fields = [field for field, settings in self._grammars().items() if setting in settings]
        return (fields or [setting])[0].partition(".")[0]

    def _grammar(self) -> dict[str, Any]:
        """The setting that says which grammar the text follows, if one does."""
        given = self._grammars()
        if len(given) > 1:
            first, *others = given
            says = f"and {' and '.join(others)} are both given, and a text follows one grammar; choose one"
            raise SettingError(first, says)
        return next(iter(given.values()), {})

    def _grammars(self) -> dict[str, dict[str, Any]]:
        """The settings by the fields that give them."""
        structured = self.structured_outputs
        given: dict[str, dict[str, Any]] = {}
        match self.response_format:
            case JsonObjectFormat():
                given["response_format"] = {"json_schema": json.dumps(ANY_OBJECT)}
            case JsonSchemaFormat(json_schema=named):
                given["response_format"] = {"json_schema": json.dumps(named.schema_)}
        for field, schema in (("structured_outputs.json", structured.json_), ("guided_json", self.guided_json)):
            if schema is not None:
                given[field] = {"json_schema": schema if isinstance(schema, str) else json.dumps(schema)}
        if structured.json_object:
            given["structured_outputs.json_object"] = {"json_schema": json.dumps(ANY_OBJECT)}
        others = {
            "regex": (structured.regex, self.guided_regex),
            "choices": (structured.choice, self.guided_choice),
            "grammar": (structured.grammar, self.guided_grammar),
        }
        wire = {"regex": "regex", "choices": "choice", "grammar": "grammar"}
        for name, values in others.items():
            for field, value in zip(("structured_outputs.", "guided_"), values, strict=True):
                if value is not None:
                    given[f"{field}{wire[name]}"] = {name: tuple(value) if isinstance(value, list) else value}
        return given
