"""From text to tokens and back, as every engine offers it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .detokeniser import Detokeniser


class Tokenizer(Protocol):
    """The tokenizer of a target."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's id by its spelling; equal where token ids mean the same."""
        ...

    @property
    def has_chat_template(self) -> bool: ...

    @property
    def detokeniser(self) -> Detokeniser: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with what the tokenizer puts before every text."""
        ...

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a chat, up to where its next answer begins; templates raise whatever their author chose."""
        ...

    def fast_json(self) -> str:
        """The same in the format of Hugging Face's tokenizers; InputError where it is of another kind."""
        ...


def vocabulary_sha256(vocabulary: Mapping[str, int]) -> str:
    """A hash of a vocabulary, the same where token ids mean the same; checkpoints and traces carry it."""
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()
