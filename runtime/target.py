"""The target: one forward over the root and the kept nodes gives a row of logits after each."""

import numpy as np
from torch import Tensor

from ..controller.tree import Array, DraftTree
from .backends.base import CachedModel, append_text


class Target:
    """Scores trees; all but the last committed token of each text (the root of the next tree) is in its cache."""

    def __init__(self, model: CachedModel):
        self.model = model

    def start(self, texts: list[Array], capacity: int) -> None:
        """Read the prompts; the last token of each stays outside, as the first root."""
        self.model.open(len(texts), capacity)
        append_text(self.model, [text[:-1] for text in texts])

    def score(self, tree: DraftTree) -> Tensor:
        """[B, N, V]: logits after each node, given its path."""
        positions = self.model.lengths[:, None] + np.maximum(tree.depths, 0)
        return self.model.forward(tree.tokens, positions, tree.ancestors())

    def commit(self, path: Array, active: Array) -> None:
        """Keep the root and the accepted `path` ([B, A] nodes, -1 behind the last) of the active requests."""
        kept = np.concatenate((np.zeros_like(active, dtype=np.int64)[:, None], path), axis=1)
        self.model.commit(np.where(active[:, None], kept, -1))
