"""Bottom-up verification: test one node after another, deepest first, until one succeeds.

A test is a node, the probability that the verification ends there given that all earlier tests failed, and the
distribution of the token emitted there; the last test, the root's, is certain. `judge` flips a coin per test and stops
at the first success; `distribution` hears the tests out and adds up.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from .coins import Coins
from .sampled_tree import SampledTree

Tests = Iterator[tuple[int, float, Tensor]]
"""(node, probability, [V] distribution of the next token)"""


class BottomUp:
    def __init__(self, tests: Callable[[SampledTree], Tests]):
        self._tests = tests

    def distribution(self, view: SampledTree, joint: Tensor) -> None:
        failed = 1.0
        for node, probability, next_probs in self._tests(view):
            joint[node] += failed * probability * next_probs
            failed *= 1.0 - probability
            if failed == 0:
                break

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        for node, probability, next_probs in self._tests(view):
            if coins.accept(probability):
                return node, coins.draw(next_probs)
        raise AssertionError("the root's test is certain")
