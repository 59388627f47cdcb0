"""The cheapest stage: the text's own n-grams, and a datastore, go on as the text did before.

The guessed nodes are those most likely to be reached: each is what is expected most behind its parent, and its
probability is that of the path, by the drafter model up to the frontier and by the n-grams from there on.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from math import log

import numpy as np

from ....controller.trees.tree import Array, DraftTree
from ...engines.base import Session
from ...prefixes.rows import NO_PREFIX, Prefix
from ...sampling import TokenSampler
from ..ngrams.proposals import path_to
from ..ngrams.slots import SlotNgrams


class NgramStage:
    """A `Stage` (see `base`) by the n-grams of `texts`, which the drafter above keeps up to date. Guesses of less than
    `least` probability are not made: each costs the drafter a row."""

    def __init__(self, most: int, least: float, texts: SlotNgrams):
        assert most >= 0 and least > 0
        self.most = most
        self._least = log(least)
        self._texts = texts

    def prepare(self, num_slots: int) -> None:
        pass  # there is nothing to capture

    def open(self) -> Sequence[Session]:
        return ()

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        pass  # `texts` does

    def keep(self, slots: Sequence[int]) -> None:
        pass

    def guess(self, tree: DraftTree, frontier: Array, deepest: Array, sampler: TokenSampler) -> DraftTree:
        guesses = [self._guesses(tree, row, frontier[row], int(deepest[row])) for row in range(len(frontier))]
        most = max(map(len, guesses))
        tokens, parents = np.zeros((len(guesses), most), dtype=np.int64), np.full((len(guesses), most), -1)
        for row, of_tree in enumerate(guesses):
            tokens[row, : len(of_tree)] = [token for token, _ in of_tree]
            parents[row, : len(of_tree)] = [parent for _, parent in of_tree]
        return tree.with_nodes(tokens, parents)

    def _guesses(self, tree: DraftTree, row: int, frontier: Array, deepest: int) -> list[tuple[int, int]]:
        """Token and parent of each node guessed for one tree, numbered from the tree's own nodes on."""
        tokens, parents = tree.tokens[row].tolist(), tree.parents[row].tolist()
        num_nodes = int(tree.num_nodes[row])
        found: list[tuple[int, int]] = []
        # Likeliest first: negative log-probability, node, and the tokens from the root to it.
        waiting: list[tuple[float, int, list[int]]] = []
        for node in frontier[frontier >= 0].tolist():
            heappush(waiting, (-float(tree.path_noisy_log_probs[row, node]), node, path_to(node, tokens, parents)))
        while waiting and len(found) < self.most:
            surprise, node, path = heappop(waiting)
            forecast = self._texts.models[row].contexts(path).forecast(1)
            if len(path) >= deepest or not forecast.tokens or surprise - forecast.log_probs[0] > -self._least:
                continue
            heappush(waiting, (surprise - forecast.log_probs[0], num_nodes + len(found), [*path, forecast.tokens[0]]))
            found.append((forecast.tokens[0], node))
        return found

    def follow(self, texts: Sequence[Array]) -> None:
        pass
