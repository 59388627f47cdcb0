"""Bottom-up verification: test one node after another, deepest first, until one succeeds.

A test is a node, the probability that the verification ends there given that all earlier tests failed, and the law of
the token emitted there; the last test, the root's, is certain. `verify` flips a coin per test and stops at the first
success; `law` hears the tests out and adds up.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...controller.contract import VerifierTerms
from ...controller.tree import Array, DraftTree
from ..sampling import TokenSampler
from .base import DraftRows, StopLaw, Verdict
from .coins import Coins
from .sampled_tree import SampledTree, single_tree, verify_each

Tests = Iterator[tuple[int, float, Tensor]]
"""(node, probability, [V] law of the next token)"""


class BottomUpVerifier:
    def __init__(self, terms: VerifierTerms, tests: Callable[[SampledTree], Tests]):
        self.terms = terms
        self._tests = tests

    def verify(
        self, tree: DraftTree, rows: Tensor, draft_rows: DraftRows, sampler: TokenSampler, root_positions: Array
    ) -> Verdict:
        return verify_each(self.judge, tree, rows, draft_rows, sampler, root_positions)

    def law(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopLaw:
        joint = torch.zeros_like(target_rows)
        failed = 1.0
        for node, probability, next_probs in self._tests(single_tree(tree, target_rows, draft_rows)):
            joint[node] += failed * probability * next_probs
            failed *= 1.0 - probability
            if failed == 0:
                break
        return StopLaw(joint)

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        """Where the verification ends, and the token emitted there."""
        for node, probability, next_probs in self._tests(view):
            if coins.accept(probability):
                return node, coins.draw(next_probs)
        raise AssertionError("the root's test is certain")
