"""Fields of OpenAI's and other servers' requests that are not supported: which of them may still be sent.

A field that would change the answer is refused by name and not ignored. A field may still be sent with the value that
changes nothing, and null means that a field is not given. The schema that clients are shown says the same.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

NOT_SUPPORTED = "not_supported"

# Cannot change the text with any value.
WITHOUT_EFFECT = frozenset({"user", "metadata", "service_tier", "store", "safety_identifier", "prompt_cache_key"})

# The one value of each that changes nothing.
NEUTRAL: dict[str, Any] = {
    # OpenAI
    "echo": False,
    "suffix": "",
    "modalities": ["text"],
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    # vLLM, llama.cpp and others
    "typical_p": 1,
    "repeat_penalty": 1,
    "length_penalty": 1,
    "no_repeat_ngram_size": 0,
    "skip_special_tokens": True,
    "include_stop_str_in_output": False,
    "use_beam_search": False,
    "mirostat": 0,
    "dynatemp_range": 0,
    "dry_multiplier": 0,
    "xtc_probability": 0,
    "add_generation_prompt": True,
    "continue_final_message": False,
    "chat_template_kwargs": {},
}

# What to give in place of a field that is spelled otherwise here.
INSTEAD = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "grammar": "guided_grammar",
    "json_schema": "response_format",
    "stop_sequences": "stop",
    "messages": "prompt",
    "prompt": "messages",
    "top_logprobs": "logprobs",
    "prompt_logprobs": "echo and logprobs",
}


class Fields(BaseModel):
    """Fields that are all checked: null means that one is not given, and unknown ones are refused."""

    model_config = ConfigDict(strict=True, json_schema_extra=lambda schema, model: _as_checked(schema, model))

    without_effect: ClassVar[Collection[str]] = ()
    neutral: ClassVar[Mapping[str, Any]] = {}
    conditions: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """What fields ask of each other, as the schema says it"""

    @model_validator(mode="before")
    @classmethod
    def _take_known(cls, body: Any) -> Any:
        """The known fields of a JSON object, those that are null left out; ValidationError for the first other one that
        would change the answer. What is no object is left to be refused by others."""
        if not isinstance(body, dict):
            return body
        given = {name: value for name, value in body.items() if value is not None}
        neutral = cls.neutral
        for name, value in given.items():
            if name in cls.model_fields or name in cls.without_effect:
                continue
            hint = f"give {INSTEAD[name]} instead" if name in INSTEAD else "leave it out"
            if name not in neutral:
                raise _refused(name, f"not supported; {hint}")
            if not _is_same(value, neutral[name]):
                taken = json.dumps(neutral[name])
                raise _refused(name, f"not supported; {hint} ({taken} is taken, for it changes nothing)")
        return {name: value for name, value in given.items() if name in cls.model_fields}


class BodyFields(Fields):
    """Fields of a request for texts."""

    without_effect = WITHOUT_EFFECT
    neutral = NEUTRAL


def _as_checked(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Make the schema of some `Fields` say what is checked: null for whatever may be left out, the one value of what is
    not supported, and nothing else but null."""
    assert issubclass(model, Fields)
    known: dict[str, Any] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    shown = {name: each if name in required else _or_null(each) for name, each in known.items()}
    others = {name: {"enum": [value, None]} for name, value in model.neutral.items()}
    anything = {name: {} for name in sorted(model.without_effect)}
    schema["properties"] = shown | {name: each for name, each in (others | anything).items() if name not in known}
    schema["additionalProperties"] = {"type": "null"}
    if model.conditions:
        schema["allOf"] = [*model.conditions]


def only_with(field: str, beside: str) -> dict[str, Any]:
    """The condition that one field is only given where another is true."""
    is_true = {"required": [beside], "properties": {beside: {"const": True}}}
    return {"if": is_true, "else": {"properties": {field: {"type": "null"}}}}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, or null; title and default stay outside."""
    outside = {name: schema[name] for name in ("title", "default") if name in schema}
    inside = {name: value for name, value in schema.items() if name not in outside}
    options = inside["anyOf"] if [*inside] == ["anyOf"] else [inside]
    null = {"type": "null"}
    return {"anyOf": options if null in options else [*options, null], **outside}


def _is_same(value: Any, neutral: Any) -> bool:
    """Equal, where true and false are no numbers."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _refused(name: str, message: str) -> ValidationError:
    return ValidationError.from_exception_data(
        name, [InitErrorDetails(type=not_supported(message), loc=(name,), input=None)]
    )


def not_supported(message: str) -> PydanticCustomError:
    # pydantic would substitute values for braces.
    return PydanticCustomError(NOT_SUPPORTED, "{message}", {"message": message})
