"""The network of shapes: what is known at a root to the accepted length of every delayed tree there."""

import torch
from torch import Tensor, nn

from ..trees.delayed import BRANCHED, CHAINS
from .shape_menu import TREE_VERIFIERS
from .standardised import StandardisedModel


class ShapeModel(StandardisedModel):
    """A small perceptron; its answers are in the order of `shape_menu`.

    Traversal's trees, whose labels are few and noisy, are answered by their difference to SpecTr's, which begins at 0.
    """

    deepest: Tensor  # [answers] of each tree: no more is accepted

    def __init__(self, num_features: int, num_answers: int, hidden_size: int = 64):
        super().__init__(num_features, hidden_size)
        self.head = nn.Linear(hidden_size, num_answers)
        chains, trees = ([float(shape.depth) for shape in shapes] for shapes in (CHAINS, BRANCHED))
        rest = (num_answers - 2 * len(chains)) // len(trees)
        self._knows_traversal = rest > len(TREE_VERIFIERS)
        if self._knows_traversal:
            for part in (self.head.weight, self.head.bias):
                nn.init.zeros_(part.data[-len(trees) :])
        self.register_buffer("deepest", torch.tensor(2 * chains + rest * trees))

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
