"""How the target saw the tokens of a text: logarithms of its probabilities before temperature, top-k and top-p.

They are of the rows that verification has at hand, one per committed token, so they cost no forward. Those of a
prompt's tokens take the rows after all of it, a chunk at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .machine.transfer import to_device


class TokenLogProbs(NamedTuple):
    token: int
    log_prob: float  # natural, given all tokens before
    top: list[tuple[int, float]]  # the likeliest tokens in its place, best first


class TextLogProbs:
    """Of the tokens of one text, each beside the `num_top` likeliest in its place; those of its prompt as well, if its
    tokens are given."""

    def __init__(self, num_top: int, vocabulary_size: int, prompt_ids: Sequence[int] = ()):
        self.num_top = num_top
        self.of_prompt: list[TokenLogProbs] = []  # from its second token on
        self.of_text: list[TokenLogProbs] = []
        self._vocabulary_size = vocabulary_size
        self._prompt_ids = prompt_ids
        self._num_taken = 0

    @property
    def waits_for_prompt(self) -> bool:
        return len(self.of_prompt) + 1 < len(self._prompt_ids)

    def read(self, logits: Tensor) -> None:
        """Take the logits [n, V] after the next n tokens of the prompt."""
        start = len(self.of_prompt) + 1
        self.of_prompt += self.judge(logits, self._prompt_ids[start : start + len(logits)])

    def take(self) -> list[TokenLogProbs]:
        """Those of the text's tokens since the last call."""
        new = self.of_text[self._num_taken :]
        self._num_taken += len(new)
        return new

    def judge(self, logits: Tensor, tokens: Sequence[int]) -> list[TokenLogProbs]:
        """Of `tokens`, each behind its row of `logits` [n, V]."""
        wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        log_probs = wide[:, : self._vocabulary_size].log_softmax(dim=-1)
        own = log_probs.gather(-1, to_device(np.array(tokens, dtype=np.int64), logits.device)[:, None])
        top = log_probs.topk(min(self.num_top, self._vocabulary_size))
        rows = zip(tokens, torch.cat((own, top.values), dim=1).tolist(), top.indices.tolist(), strict=True)
        return [
            TokenLogProbs(token, log_prob, [*zip(likeliest, of_likeliest, strict=True)])
            for token, (log_prob, *of_likeliest), likeliest in rows
        ]
