"""The network of shapes: what is known at a root to the accepted length of every shape there."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..trees.delayed import BRANCHED
from .shape_menu import TRAVERSAL, answers_of, menu_of, num_answers
from .standardised import StandardisedModel


class ShapeModel(StandardisedModel):
    """A small perceptron; its answers are in the order of `shape_menu`.

    Traversal's trees, whose labels are few and noisy, are answered by their difference to SpecTr's, which begins at 0.
    """

    deepest: Tensor  # [answers] of each shape: no more is accepted

    def __init__(self, num_features: int, verifiers: Sequence[str], hidden_size: int = 64):
        super().__init__(num_features, hidden_size)
        deepest = np.zeros(num_answers(verifiers), dtype=np.float32)
        for verifier in verifiers:
            deepest[answers_of(verifier, verifiers)] = [shape.depth for shape in menu_of(verifier).shapes]
        self.head = nn.Linear(hidden_size, len(deepest))
        self._knows_traversal = TRAVERSAL in verifiers
        if self._knows_traversal:
            for part in (self.head.weight, self.head.bias):
                nn.init.zeros_(part.data[-len(BRANCHED) :])
        self.register_buffer("deepest", torch.from_numpy(deepest))

    def lengths(self, features: Tensor) -> Tensor:
        """[n, answers] for features [n, F], not yet within what is possible."""
        lengths = self.head(self.hidden(features))
        if not self._knows_traversal:
            return lengths
        before, spectr, difference = lengths.split((lengths.shape[1] - 2 * len(BRANCHED), *2 * (len(BRANCHED),)), dim=1)
        return torch.cat((before, spectr, spectr + difference), dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """[n, answers] expected accepted lengths, from 0 to the depth of the tree."""
        return torch.minimum(self.lengths(features).clamp_min(0.0), self.deepest)
