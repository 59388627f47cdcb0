"""The text of tokens by a fast tokenizer."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from tokenizers import Tokenizer

MOST_TOKENS = 1 << 14  # whose text is kept


class TokenizerDetokeniser:
    """A `Detokeniser` (see `text.detokeniser`)."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decode_one = lru_cache(MOST_TOKENS)(lambda token: self._decode((token,)))

    @property
    def special_tokens(self) -> Mapping[str, int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    def decode(self, token_ids: Sequence[int]) -> str:
        if len(token_ids) == 1:  # half of what a growing text asks
            return self._decode_one(token_ids[0])
        return self._decode(token_ids)

    def _decode(self, token_ids: Sequence[int]) -> str:
        try:
            return self._tokenizer.decode(token_ids, skip_special_tokens=True)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # A panic of the tokenizers library is no Exception; as one, it ends only the request that it belongs to.
            raise RuntimeError(f"the tokenizer's decoder failed: {error}") from error
