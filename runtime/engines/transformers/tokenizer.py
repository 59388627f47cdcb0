"""The tokenizer of a model folder."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from .detokeniser import TokenizerDetokeniser


class TransformersTokenizer:
    """A `Tokenizer` (see `text.tokenizer`) by one of transformers' fast ones."""

    def __init__(self, fast: Any):
        self.fast = fast

    @property
    def vocabulary(self) -> Mapping[str, int]:
        return self.fast.get_vocab()

    @property
    def has_chat_template(self) -> bool:
        return bool(self.fast.chat_template)

    @property
    def detokeniser(self) -> TokenizerDetokeniser:
        return TokenizerDetokeniser(self.fast.backend_tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self.fast(text)["input_ids"])

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return list(self.fast.apply_chat_template([*messages], add_generation_prompt=True, return_dict=False))

    def fast_json(self) -> str:
        backend = copy(self.fast.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        return backend.to_str()
