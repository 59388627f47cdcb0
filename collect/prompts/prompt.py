"""A prompt: text to continue or a chat to answer, made from a row of any source by the same rules."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...controller.errors import InputError, first_line, named
from ...runtime.pair import Pair
from ...runtime.request import Request, check_request
from ...runtime.sampling import Sampling
from ...runtime.text.tokenizer import Tokenizer

# A row's prompt is the first of these keys that it has; null counts as missing.
CONTENT_KEYS = ("prompt", "text", "messages")
NEEDED = "'prompt', 'text' or 'messages'"


@dataclass(frozen=True)
class Prompt:
    """Text to continue, or the messages of a chat whose next answer is generated."""

    text: str
    domain: str
    document: str  # prompts of one document never fall on both sides of a train/validation split
    location: str  # file and line, or dataset and row: how errors name it
    split: str | None = None  # None: it belongs to every split
    messages: tuple[dict[str, Any], ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """All that a text generated for this prompt depends on, as JSON."""
        content = {"messages": self.messages} if self.messages else {}
        return {"text": self.text, "domain": self.domain, "document": self.document, **content}


def read_prompt(row: object, source: str, label: str, *, domain: str = "text") -> Prompt:
    """The prompt of a row, which `label` names within `source`; InputError where it holds none."""
    location = f"{source} {label}"
    if not isinstance(row, Mapping):
        raise InputError(f"{location} is no object with a key {NEEDED}; fix it")
    key = next((key for key in CONTENT_KEYS if row.get(key) is not None), None)
    if key is None:
        raise InputError(f"{location} has no {NEEDED}, or null there; give one or remove the row")
    content, text, messages = row[key], "", ()
    if isinstance(content, list):
        messages = _chat(content, location, key)
    elif not isinstance(content, str) or key == "messages":
        kinds = "a list of messages" if key == "messages" else "a string or a list of messages"
        raise InputError(f"{location}: {key!r} is {kinds}, got {type(content).__name__}; fix it")
    elif not content.strip():
        raise InputError(f"{location} has an empty {key!r}; fill or remove the row")
    else:
        text = _whole(content, location, key)
    name: Callable[[str], str | None] = partial(_name, row, location)
    return Prompt(text, name("domain") or domain, name("document") or label, location, name("split"), messages)


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """Its tokens; InputError that names the prompt where the tokenizer, or its chat template, makes none."""
    if prompt.messages and not tokenizer.has_chat_template:
        raise InputError(
            f"{prompt.location} is a chat, but the target's tokenizer has no chat template; give its text as 'prompt'"
        )
    try:
        ids = tokenizer.encode_chat(prompt.messages) if prompt.messages else tokenizer.encode(prompt.text)
    except Exception as error:  # tokenizers raise plain exceptions, templates whatever their author chose
        raise InputError(f"{prompt.location} cannot be turned into tokens ({first_line(error)}); fix it") from error
    if not ids:
        raise InputError(f"{prompt.location}: the target's tokenizer makes no tokens of it; remove the row")
    return ids


def prompt_request(prompt: Prompt, pair: Pair, max_tokens: int, sampling: Sampling) -> Request:
    """The request to the decode loop; InputError that names the prompt where it does not fit the target's context."""
    request = Request(prompt_ids(prompt, pair.tokenizer), max_tokens, sampling)
    with named(prompt.location):
        check_request(request, pair.target.context_length, pair.target.vocabulary_size)
    return request


def _chat(content: list[Any], location: str, key: str) -> tuple[dict[str, Any], ...]:
    """The messages up to the last that is not an answer; nulls, which tables fill gaps with, are left out."""
    messages = []
    for message in content:
        parts = [message.get(name) for name in ("role", "content")] if isinstance(message, Mapping) else [None]
        if not all(isinstance(part, str) for part in parts):
            raise InputError(f"{location}: every message of {key!r} has a 'role' and a 'content', both strings; fix it")
        try:
            _whole(json.dumps(message, ensure_ascii=False), location, key)
        except TypeError as error:
            raise InputError(
                f"{location}: {key!r} holds a value that JSON cannot represent ({error}); fix it"
            ) from error
        messages.append({name: value for name, value in message.items() if value is not None})
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise InputError(f"{location}: {key!r} holds no message to answer; remove the row")
    return tuple(messages)


def _name(row: Mapping[str, Any], location: str, key: str) -> str | None:
    """A name, or a number's digits; None where it is not given."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{location}: {key!r} is a string or a whole number, got {type(value).__name__}; fix it")
    return _whole(str(value), location, key)


def _whole(text: str, location: str, key: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{location}: {key!r} holds half of a surrogate pair, which is no character; fix it"
        ) from error
    return text
