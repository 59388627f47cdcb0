"""The text's own n-grams as a second drafter: one more child under every node, fused with the model's tree.

Retrieval from the text itself (prompt lookup; RASD, arXiv:2503.03434, fuses such drafts by their prefix): a small
drafter seldom notices that a text repeats itself.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ....controller.trees.tree import Array, DraftTree
from ...schemes.ranked import Besides
from .model import Contexts, Forecast, NgramModel


class NodeNgrams:
    """What each of `texts` [B], which end with their trees' roots, expects under the nodes of `frontier` [B, F]; an
    `Ngrams` (see `ranked`)."""

    def __init__(self, texts: Sequence[NgramModel], tree: DraftTree, frontier: Array):
        self._shape = frontier.shape
        self._contexts: list[Contexts] = []
        self._forecasts: list[Forecast] = []
        tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
        for text, nodes, *of_tree in zip(texts, frontier.tolist(), tokens, parents, strict=True):
            self._contexts += [text.contexts(path_to(node, *of_tree)) for node in nodes]

    def expected(self, count: int) -> Array:
        self._forecasts = [contexts.forecast(count) for contexts in self._contexts]
        return filled_up(self._forecasts, count).reshape(*self._shape, count)

    def besides(self, candidates: Array) -> Besides:
        return besides(self._forecasts, candidates)


def filled_up(forecasts: Iterable[Forecast], count: int) -> Array:
    """[n, count] of up to `count` expected tokens each, -1 behind the last."""
    return np.array([[*of_node.tokens, *[-1] * (count - len(of_node.tokens))] for of_node in forecasts])


def besides(forecasts: Iterable[Forecast], candidates: Array) -> Besides:
    """Of each node, the `candidates` [B, F, W] of all, one after another."""
    *shape, width = candidates.shape
    proposals, top_log_probs = [], []
    for forecast, of_node in zip(forecasts, candidates.reshape(-1, width).tolist(), strict=True):
        proposals.append(forecast.besides(of_node))
        top_log_probs.append(forecast.top_log_prob)
    ranks, log_probs = zip(*proposals, strict=True)
    return Besides(
        np.array(ranks).reshape(shape),
        np.array(log_probs, dtype=np.float32).reshape(*shape, width + 1),
        np.array(top_log_probs, dtype=np.float32).reshape(shape),
    )


def path_to(node: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
    """The tokens drafted from the root, left out, to `node` of one tree."""
    path: list[int] = []
    while node > 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]
