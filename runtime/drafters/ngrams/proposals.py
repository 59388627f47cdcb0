"""The text's own n-grams as a second drafter: one more child under every node, fused with the model's tree.

Retrieval from the text itself (prompt lookup; RASD, arXiv:2503.03434, fuses such drafts by their prefix): a small
drafter seldom notices that a text repeats itself.
"""

from collections.abc import Sequence

import numpy as np

from ....controller.trees.tree import Array, DraftTree
from ...schemes.ranked import Besides
from .model import Contexts, NgramModel, Proposal


class NodeNgrams:
    """What each of `texts` [B], which end with their trees' roots, expects under the nodes of `frontier` [B, F]; an
    `Ngrams` (see `ranked`)."""

    def __init__(self, texts: Sequence[NgramModel], tree: DraftTree, frontier: Array):
        self._contexts: list[list[Contexts]] = []
        self._expected: list[list[list[int]]] = []
        for row, (text, nodes) in enumerate(zip(texts, frontier.tolist(), strict=True)):
            of_tree = tree.tokens[row].tolist(), tree.parents[row].tolist()
            self._contexts.append([text.contexts(path_to(node, *of_tree)) for node in nodes])

    def expected(self, count: int) -> Array:
        self._expected = [[context.expected(count) for context in of_tree] for of_tree in self._contexts]
        return filled_up(self._expected, count)

    def besides(self, candidates: Array) -> Besides:
        of_trees = zip(self._contexts, candidates.tolist(), self._expected, strict=True)
        return besides([list(map(Contexts.besides, *of_tree)) for of_tree in of_trees])


def filled_up(expected: Sequence[Sequence[Sequence[int]]], count: int) -> Array:
    """[B, F, count] of up to `count` tokens each, -1 behind the last."""
    return np.array([[[*tokens, *[-1] * (count - len(tokens))] for tokens in of_tree] for of_tree in expected])


def besides(proposals: Sequence[Sequence[Proposal]]) -> Besides:
    """Those of each node of each tree."""
    ranks, log_probs, top_log_probs = (
        np.array([[proposal[column] for proposal in of_tree] for of_tree in proposals]) for column in range(3)
    )
    return Besides(ranks, log_probs.astype(np.float32), top_log_probs.astype(np.float32))


def path_to(node: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
    """The tokens drafted from the root, left out, to `node` of one tree."""
    path: list[int] = []
    while node > 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]
