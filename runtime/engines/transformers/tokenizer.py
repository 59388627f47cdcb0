"""The tokenizer of a model folder."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....controller.errors import InputError, what_it_says
from .detokeniser import TokenizerDetokeniser

if TYPE_CHECKING:
    from llguidance import LLTokenizer


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

    def grammar_tokenizer(self, end_tokens: Collection[int]) -> "LLTokenizer":
        from llguidance.hf import from_tokenizer

        try:
            return from_tokenizer(self.fast, eos_token=sorted(end_tokens))
        except Exception as error:  # llguidance raises plain ones for a tokenizer that it cannot read
            raise InputError(
                f"grammars cannot be followed with this target's tokenizer ({what_it_says(error)}); leave them out"
            ) from error
