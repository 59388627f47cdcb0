"""Fields of OpenAI's and other servers' completions that are not supported: which of them may still be sent.

A field that would change the answer is refused by name and not ignored. A field may still be sent with the value that
changes nothing, and null means that a field is not given.
"""

import json
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

NOT_SUPPORTED = "not_supported"
MAX_CHOICES = 8  # texts for one prompt

# Cannot change the text with any value.
WITHOUT_EFFECT = frozenset({"user", "metadata", "service_tier", "store", "safety_identifier", "prompt_cache_key"})

# The one value of each that changes nothing. `best_of` may be what `n` is.
NEUTRAL: dict[str, Any] = {
    # OpenAI
    "echo": False,
    "suffix": "",
    "tools": [],
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
}


def take_known(body: Any, known: Collection[str]) -> Any:
    """The `known` fields of a JSON object, those that are null left out; ValidationError for the first other one that
    would change the answer. What is no object is left to be refused by others."""
    if not isinstance(body, dict):
        return body
    given = {name: value for name, value in body.items() if value is not None}
    num_choices = given.get("n", 1)
    neutral = NEUTRAL | {"best_of": num_choices if num_choices in range(1, MAX_CHOICES + 1) else 1}
    for name, value in given.items():
        if name in known or name in WITHOUT_EFFECT:
            continue
        hint = f"give {INSTEAD[name]} instead" if name in INSTEAD else "leave it out"
        if name not in neutral:
            raise _refused(name, f"not supported; {hint}")
        if not _is_same(value, neutral[name]):
            raise _refused(name, f"not supported but for {json.dumps(neutral[name])}, which changes nothing; {hint}")
    return {name: value for name, value in given.items() if name in known}


def _is_same(value: Any, neutral: Any) -> bool:
    """Equal, where true and false are no numbers."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _refused(name: str, message: str) -> ValidationError:
    # pydantic would substitute values for braces.
    error = PydanticCustomError(NOT_SUPPORTED, "{message}", {"message": message})
    return ValidationError.from_exception_data(name, [InitErrorDetails(type=error, loc=(name,), input=None)])
