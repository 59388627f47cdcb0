"""Logit biases: numbers that are added to the logits of chosen tokens (OpenAI's `logit_bias`)."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ...controller.trees.tree import Array
from ..machine.transfer import to_device


class LogitBias:
    def __init__(self, biases: Mapping[int, float]):
        self._tokens = np.array([*biases], dtype=np.int64)
        self._biases = np.array([*biases.values()], dtype=np.float64)

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        tokens, biases = to_device(self._tokens, logits.device), to_device(self._biases, logits.device)
        return logits.index_add_(1, tokens, biases.to(logits.dtype).expand(len(logits), -1))
