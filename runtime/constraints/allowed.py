"""All tokens are banned but those that a request allows."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from ...controller.trees.tree import Array
from ..machine.transfer import to_device


class AllowedTokens:
    def __init__(self, tokens: Collection[int]):
        self._tokens = np.array(sorted(set(tokens)), dtype=np.int64)

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        columns = to_device(self._tokens, logits.device)
        return torch.full_like(logits, -torch.inf).index_copy_(1, columns, logits.index_select(1, columns))
