"""Tokens of a GGUF file: text to tokens and back by llama.cpp, chats by the file's own template."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NoReturn

from ....controller.errors import InputError
from .context import Context
from .library import llama_cpp

MOST_TOKENS = 1 << 14  # whose text is kept


class GgufTokenizer:
    """A `Tokenizer` and a `Detokeniser` (see `text`)."""

    def __init__(self, context: Context):
        self._library = llama_cpp()
        self._context = context  # which owns the vocabulary
        self._decode_one = lru_cache(MOST_TOKENS)(lambda token: self._decode((token,)))

    @property
    def vocabulary(self) -> Mapping[str, int]:
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> Mapping[str, int]:
        """Without the rows that only pad the model."""
        return {
            self._library.llama_vocab_get_text(self._context.vocabulary, token).decode(errors="replace"): token
            for token in self._tokens(lambda attributes: not attributes & self._library.LLAMA_TOKEN_ATTR_UNUSED)
        }

    @property
    def special_tokens(self) -> Mapping[str, int]:
        control = set(self._tokens(lambda attributes: bool(attributes & self._library.LLAMA_TOKEN_ATTR_CONTROL)))
        return {text: token for text, token in self.vocabulary.items() if token in control}

    @property
    def end_tokens(self) -> frozenset[int]:
        """All that end a text, a turn or a message."""
        ends = self._library.llama_vocab_is_eog
        return frozenset(token for token in range(self._num_rows) if ends(self._context.vocabulary, token))

    @property
    def detokeniser(self) -> "GgufTokenizer":
        return self

    @property
    def _num_rows(self) -> int:
        return self._library.llama_vocab_n_tokens(self._context.vocabulary)

    def _tokens(self, has: Callable[[int], bool]) -> list[int]:
        attributes = self._library.llama_vocab_get_attr
        return [token for token in range(self._num_rows) if has(attributes(self._context.vocabulary, token))]

    def encode(self, text: str) -> list[int]:
        return self._encode(text, add_special=True)

    def _encode(self, text: str, *, add_special: bool) -> list[int]:
        content = text.encode()
        size = len(content) + 2  # a token has a byte at least, but for those at the ends
        tokens = (ctypes.c_int32 * size)()
        options = (tokens, size, add_special, True)
        count = self._library.llama_tokenize(self._context.vocabulary, content, len(content), *options)
        if count < 0:
            raise ValueError(f"llama.cpp makes more than {size} tokens of {len(content)} bytes")
        return tokens[:count]

    def decode(self, token_ids: Sequence[int]) -> str:
        if len(token_ids) == 1:  # half of what a growing text asks
            return self._decode_one(token_ids[0])
        return self._decode(token_ids)

    def _decode(self, token_ids: Sequence[int]) -> str:
        tokens = (ctypes.c_int32 * len(token_ids))(*token_ids)
        size = 16 * len(token_ids) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._library.llama_detokenize(
                self._context.vocabulary, tokens, len(token_ids), buffer, size, False, False
            )
            if count >= 0:
                return buffer.raw[:count].decode(errors="replace")
            size = -count

    @property
    def has_chat_template(self) -> bool:
        return bool(self._template)

    @cached_property
    def _template(self) -> str:
        template = self._library.llama_model_chat_template(self._context.model, None)
        return template.decode() if template else ""

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        from transformers.utils.chat_template_utils import render_jinja_template

        (text,), _ = render_jinja_template(
            [[dict(message) for message in messages]],
            chat_template=self._template,
            add_generation_prompt=True,
            bos_token=self._spelled(self._library.llama_vocab_bos(self._context.vocabulary)),
            eos_token=self._spelled(self._library.llama_vocab_eos(self._context.vocabulary)),
        )
        return self._encode(text, add_special=False)

    def fast_json(self) -> NoReturn:
        raise InputError("it is that of a GGUF file, and grammars need one of transformers")

    def _spelled(self, token: int) -> str:
        text = self._library.llama_vocab_get_text(self._context.vocabulary, token) if token >= 0 else b""
        return text.decode(errors="replace")
