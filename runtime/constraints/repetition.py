"""The repetition penalty of CTRL (arXiv:1909.05858) as transformers and vLLM apply it: over prompt and text.

A logit of a token that occurs is divided by the penalty if it is positive, and multiplied by it otherwise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...controller.trees.tree import Array
from ..machine.transfer import to_device
from .base import TokenCounts


class RepetitionPenalty:
    def __init__(self, penalty: float, prompt_ids: Sequence[int]):
        self._penalty = penalty
        self._counts = TokenCounts(prompt_ids)

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        tokens, counts = self._counts.behind(text, paths)
        columns, occurs = to_device(tokens, logits.device), to_device(counts > 0, logits.device)
        known = logits.index_select(1, columns)
        penalised = torch.where(known > 0, known / self._penalty, known * self._penalty)
        return logits.index_copy_(1, columns, torch.where(occurs, penalised, known))
