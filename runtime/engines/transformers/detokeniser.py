"""The text of tokens by a fast tokenizer."""

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer


class TokenizerDetokeniser:
    """A `Detokeniser` (see `text.detokeniser`)."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    @property
    def special_tokens(self) -> Mapping[str, int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    def decode(self, token_ids: Sequence[int]) -> str:
        try:
            return self._tokenizer.decode(token_ids, skip_special_tokens=True)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # A panic of the tokenizers library is no Exception; as one, it ends only the request that it belongs to.
            raise RuntimeError(f"the tokenizer's decoder failed: {error}") from error
