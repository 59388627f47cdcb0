"""What a round asks: the same of the server with speculation and without."""

from collections.abc import Sequence
from typing import NamedTuple

from ....controller.errors import InputError
from ...prompts.prompt import Prompt
from ..bench.concurrency import varied_length
from .settings import LoadConfig

LEAST_TEXTS = 8  # of a round


class Ask(NamedTuple):
    """One text to generate."""

    prompt: str
    max_tokens: int
    temperature: float
    seed: int


def asks_of_round(prompts: Sequence[Prompt], load: LoadConfig, concurrency: int, number: int) -> list[Ask]:
    """Those of a round; no round repeats a text. InputError for a prompt that is a chat."""
    size = max(LEAST_TEXTS, load.texts_per_client * concurrency)
    return [
        Ask(
            _text(prompts[index % len(prompts)]),
            varied_length(load.max_tokens, index),
            load.temperature,
            load.seed + index,
        )
        for index in range(number * size, (number + 1) * size)
    ]


def _text(prompt: Prompt) -> str:
    if prompt.messages:
        raise InputError(f"{prompt.location} is a chat, and the load is of completions; give its text as 'prompt'")
    return prompt.text
