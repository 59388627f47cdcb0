"""The model behind the endpoints, as far as they need it: its name, its tokens and its limits."""

from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus
from time import time

from ...controller.errors import what_it_says
from ..constraints.constrain import Constrainer
from ..text.tokenizer import Tokenizer
from .chat_protocol import Message
from .errors import ServeError
from .prompts import CharacterLimit
from .token_texts import TokenTexts


class ServedModel:
    def __init__(
        self, name: str, tokenizer: Tokenizer, constrainer: Constrainer, *, vocabulary_size: int, context_length: int
    ):
        self.name = name
        self.tokenizer = tokenizer
        self.constrainer = constrainer
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.created = int(time())
        self.token_texts = TokenTexts(tokenizer.detokeniser)
        self._limit = CharacterLimit(tokenizer.vocabulary, context_length)

    @cached_property
    def spellings(self) -> dict[int, str]:
        """Of every token, as the vocabulary has it."""
        return {token: spelling for spelling, token in self.tokenizer.vocabulary.items()}

    def require_name(self, name: str | None) -> None:
        """ServeError for the name of another model."""
        if name not in (None, self.name):
            message = f"the one model here is {self.name!r}"
            raise ServeError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")

    def require_known(self, token_ids: Sequence[int], field: str) -> None:
        """ServeError that names the `field` for a token that the model has no row for."""
        if max(token_ids, default=0) >= self.vocabulary_size:
            largest = self.vocabulary_size - 1
            message = f"{field}: the largest token id of this model is {largest}, and a larger one was given"
            raise ServeError(HTTPStatus.BAD_REQUEST, message, param=field, code="invalid_value")

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt; ServeError for one that cannot fit the context."""
        self._limit.require(len(text), "prompt")
        return self.tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat by the tokenizer's own template, up to where the answer begins; ServeError where there is
        none, and where it does not take the messages."""
        if not self.tokenizer.has_chat_template:
            message = (
                f"messages: the tokenizer of {self.name!r} has no chat template, so it is no model for chats; send a "
                "prompt to /v1/completions"
            )
            raise ServeError(HTTPStatus.BAD_REQUEST, message, param="messages", code="no_chat_template")
        self._limit.require(sum(len(message.text) for message in messages), "messages")
        turns = [{"role": message.role, "content": message.text} for message in messages]
        try:
            return self.tokenizer.encode_chat(turns)
        except Exception as error:  # templates raise whatever their author chose
            message = f"messages: the model's chat template does not take them ({what_it_says(error)})"
            raise ServeError(HTTPStatus.BAD_REQUEST, message, param="messages", code="invalid_value") from error
