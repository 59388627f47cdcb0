"""A request in a batch."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..controller.trees.tree import Array
from .log_probs import TextLogProbs
from .request import Request
from .sink import TokenSink


class Entry(NamedTuple):
    """The request and where its tokens go."""

    request: Request
    sink: TokenSink
    num_before: int = 0  # tokens of the sink that the request's prompt holds, for it goes on from there
    is_alone: bool = False  # to be the only one of its batch

    @property
    def reads_prompt_first(self) -> bool:
        """Whether all of its prompt is read before its first tree is scored."""
        return self.sink.remaining == 0 or self.prompt_log_probs is not None

    def capacity(self, num_rows: int) -> int:
        """Cache rows that the request takes at most, if one of its steps takes `num_rows`."""
        return len(self.request.prompt_ids) + self.request.max_tokens + num_rows

    @property
    def prompt_log_probs(self) -> TextLogProbs | None:
        """What takes those of its prompt; None where they are not asked for, or have been reported."""
        log_probs = self.sink.log_probs
        return log_probs if log_probs is not None and log_probs.waits_for_prompt else None

    @property
    def text(self) -> Array:
        """[n] the tokens of the prompt and what was generated."""
        return np.array([*self.request.prompt_ids, *self.sink.token_ids[self.num_before :]], dtype=np.int64)

    def going_on_alone(self) -> "Entry":
        """The rest of the request, to be decoded alone."""
        request = replace(self.request, prompt_ids=self.text.tolist(), max_tokens=self.sink.remaining)
        return Entry(request, self.sink, len(self.sink.token_ids), is_alone=True)
