"""The min-p cut (arXiv:2407.01082): tokens with less than so much of the best token's probability are banned.

It is a cut of probabilities at the request's temperature T, as in vLLM before top-k and top-p. There a token is kept
where `exp(logit / T) >= min_p * exp(best / T)`, which rows that are not yet divided by T say as well.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from ...controller.trees.tree import Array


class MinP:
    def __init__(self, min_p: float, temperature: float):
        self._reach = -temperature * log(min_p)

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        least = logits.amax(dim=1, keepdim=True) - self._reach
        return logits.masked_fill_(logits < least, -torch.inf)
