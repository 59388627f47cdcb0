"""A drafter's forwards over one text and a chain of drafts behind it, of which the next text keeps a part."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...engines.base import CHUNK, CachedModel, Session, append_text


class ChainReader:
    def __init__(self, model: CachedModel):
        self._model = model
        self._session: Session | None = None
        self._capacity = 0
        self._text: list[int] = []  # committed
        self._chain: list[int] = []  # read behind it

    def read(self, text: list[int], depth: int) -> Tensor:
        """[V] logits behind `text`, behind which up to `depth` tokens will be appended; what it shares with what was
        read before is not read again."""
        shared = _num_common([*self._text, *self._chain], text[:-1])
        num_rows = len(text) + depth + CHUNK
        if self._session is None or shared < len(self._text) or num_rows > self._capacity:
            shared, self._capacity = 0, max(2 * num_rows, self._capacity)
            self._session = Session(self._model)
            self._session.model.join(self._capacity)
        else:
            self._session.model.commit(np.arange(shared - len(self._text))[None])
        self._text, self._chain = text, []
        last = append_text(self._session.model, 0, np.array(text[shared:]))
        assert last is not None
        return last

    def append(self, token: int) -> Tensor:
        """[V] logits behind one more token of the chain."""
        assert self._session is not None
        row = len(self._chain)
        position = np.array([[len(self._text) + row]])
        logits = self._session.model.forward(np.array([[token]]), position, np.array([[row - 1]]), num_logits=1)
        self._chain.append(token)
        return logits[0, -1]


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
