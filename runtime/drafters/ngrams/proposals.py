"""The text's own n-grams as a second drafter: one more child under every node, fused with the model's tree.

Retrieval from the text itself (prompt lookup; RASD, arXiv:2503.03434, fuses such drafts by their prefix): a small
drafter seldom notices that a text repeats itself.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ....controller.trees.tree import Array, DraftTree
from .model import Contexts, NgramModel


class NodeNgrams:
    """What each of `texts` [B], which end with their trees' roots, expects under the nodes of `frontier` [B, F]; an
    `Ngrams` (see `ranked`)."""

    def __init__(self, texts: Sequence[NgramModel], tree: DraftTree, frontier: Array):
        self._contexts: list[list[Contexts]] = []
        for row, (text, nodes) in enumerate(zip(texts, frontier.tolist(), strict=True)):
            of_tree = tree.tokens[row].tolist(), tree.parents[row].tolist()
            self._contexts.append([text.contexts(path_to(node, *of_tree)) for node in nodes])

    def expected(self, count: int) -> Array:
        return np.stack([expected_tokens(of_tree, len(of_tree), count) for of_tree in self._contexts])

    def log_probs(self, tokens: Array) -> tuple[Array, Array]:
        columns = [log_probs_of(*pair) for pair in zip(self._contexts, tokens.tolist(), strict=True)]
        of_tokens, of_top = zip(*columns, strict=True)
        return np.stack(of_tokens), np.stack(of_top)


def expected_tokens(contexts: Iterable[Contexts], num_contexts: int, count: int) -> Array:
    """[n, count] the tokens that each context expects, -1 behind the last."""
    tokens = np.full((num_contexts, count), -1)
    for row, context in enumerate(contexts):
        found = context.expected(count)
        tokens[row, : len(found)] = found
    return tokens


def log_probs_of(contexts: Iterable[Contexts], tokens: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """[n, m] of each context's `tokens`, and [n] of what it expects most, float32."""
    said = [context.log_probs(of_context) for context, of_context in zip(contexts, tokens, strict=True)]
    of_tokens, of_top = zip(*said, strict=True)
    return np.array(of_tokens, dtype=np.float32), np.array(of_top, dtype=np.float32)


def path_to(node: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
    """The tokens drafted from the root, left out, to `node` of one tree."""
    path: list[int] = []
    while node > 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]
