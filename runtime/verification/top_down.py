"""Top-down verification: settle one node after another, from the root on, until a token is emitted.

At a node a solver offers the draws one after another, each with the probability that it is accepted given that the
earlier ones were refused, and returns the residual distribution for when all were refused. A token of the residual that
is itself a child lands there: the text goes on at that child, which may be a later draw or a free child of any origin,
because the residual is drawn without looking at it. `verify` flips a coin per offer and stops asking at the first
success; `law` hears the same solver out and adds up.
"""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from ...controller.contract import VerifierTerms
from ...controller.tree import Array, DraftTree
from ..sampling import TokenSampler
from .base import DraftRows, StopLaw, Verdict
from .coins import Coins
from .sampled_tree import SampledTree, single_tree, verify_each

Offers = Generator[tuple[int, float], None, Tensor]
"""(child, probability) per draw; returns the residual distribution [V], unless something was certain before."""
Solver = Callable[[SampledTree, int], Offers]


class TopDownVerifier:
    """Applies one `solver` at every node; without `lands`, a residual token ends the verification in any case."""

    def __init__(self, terms: VerifierTerms, solver: Solver, lands: bool):
        self.terms = terms
        self._solver = solver
        self._lands = lands

    def verify(
        self, tree: DraftTree, rows: Tensor, draft_rows: DraftRows, sampler: TokenSampler, root_positions: Array
    ) -> Verdict:
        return verify_each(self.judge, tree, rows, draft_rows, sampler, root_positions)

    def law(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopLaw:
        joint = torch.zeros_like(target_rows)
        view = single_tree(tree, target_rows, draft_rows)
        reach = [1.0] + [0.0] * (view.num_nodes - 1)
        for node in range(view.num_nodes):  # parents come first
            if reach[node] == 0:
                continue
            refused = reach[node]
            offers = self._offers(view, node)
            while refused > 0:
                try:
                    child, probability = next(offers)
                except StopIteration as end:
                    joint[node] = refused * end.value
                    break
                reach[child] += refused * probability
                refused *= 1.0 - probability
            if self._lands:
                for token, child in view.children(node).items():
                    reach[child] += float(joint[node, token])
                    joint[node, token] = 0.0
        return StopLaw(joint)

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
        """Where the verification ends, and the token emitted there."""
        node = 0
        while True:
            offers = self._offers(view, node)
            try:
                while not coins.accept((offer := next(offers))[1]):
                    pass
                node = offer[0]
            except StopIteration as end:
                token = coins.draw(end.value)
                children = view.children(node) if self._lands else {}
                if token not in children:
                    return node, token
                node = children[token]

    def _offers(self, view: SampledTree, node: int) -> Offers:
        if not view.draws(node):
            return view.target_probs(node)
        return (yield from self._solver(view, node))


def acceptance(target_probs: Tensor, draft_probs: Tensor, token: int) -> float:
    """min(1, p / q) of one token."""
    target, draft = float(target_probs[token]), float(draft_probs[token])
    return 1.0 if target >= draft else target / draft


def refuse(target_probs: Tensor, draft_probs: Tensor, child: int) -> Offers:
    """The residual norm((p - q)+) once `child` was refused.

    Where nothing is left, only rounding can have refused it, and it is accepted after all.
    """
    rest = (target_probs - draft_probs).clamp_min_(0.0)
    total = float(rest.sum())
    if total == 0:
        yield child, 1.0
    return rest.div_(total)
