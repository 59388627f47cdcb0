"""OpenAI's frequency and presence penalties, over the generated text alone.

A token's logit loses `frequency` times the number of its occurrences, and `presence` once if it occurs at all.
"""

from collections.abc import Sequence

from torch import Tensor

from ...controller.trees.tree import Array
from ..machine.transfer import to_device
from .base import TokenCounts


class FrequencyPenalty:
    def __init__(self, frequency: float, presence: float):
        self._frequency = frequency
        self._presence = presence
        self._counts = TokenCounts()

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        tokens, counts = self._counts.behind(text, paths)
        penalties = self._frequency * counts + self._presence * (counts > 0)
        columns = to_device(tokens, logits.device)
        return logits.index_add_(1, columns, to_device(-penalties, logits.device).to(logits.dtype))
