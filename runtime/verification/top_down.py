"""Top-down verification: settle one node after another, from the root on, until a token is emitted.

At a node a solver offers the draws one after another, each with the probability that it is accepted given that the
earlier ones were refused, and returns the residual distribution for when all were refused. A token of the residual that
is itself a child lands there: the text continues at that child, which may be a later draw or a free child of any
origin, because the residual is drawn without using it. `judge` flips a coin per offer and stops asking at the first
success; `distribution` hears the same solver out and adds up.
"""

from collections.abc import Callable, Generator

from torch import Tensor

from .coins import Coins
from .sampled_tree import SampledTree

Offers = Generator[tuple[int, float], None, Tensor]
"""(child, probability) per draw; returns the residual distribution [V], unless something was certain before."""
Solver = Callable[[SampledTree, int], Offers]


class TopDown:
    """Applies one `solver` at every node; without `lands`, a residual token ends the verification in any case."""

    def __init__(self, solver: Solver, *, lands: bool):
        self._solver = solver
        self._lands = lands

    def distribution(self, view: SampledTree, joint: Tensor) -> None:
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

    def judge(self, view: SampledTree, coins: Coins) -> tuple[int, int]:
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
