"""The parts of a decode step, each runnable alone through the real code path, to measure their times."""

from collections.abc import Sequence

import numpy as np

from ...controller.context import StepContext
from ...controller.contract import COUPLED
from ...controller.learned.history import START
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.objective import Objective
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.trees.children import Children
from ...controller.trees.limits import TreeLimits
from ...controller.trees.tree import Array, DraftTree
from ...runtime.drafters.language_model import LanguageModelDrafter
from ...runtime.engines.base import CHUNK
from ...runtime.pair import Pair
from ...runtime.sampling import Sampling, TokenSampler
from ...runtime.target import Target
from ...runtime.verification.walk import WalkVerifier

NO_ROWS = np.zeros((0, 0), dtype=np.int64)
COMMITTED = (0, 2, 4, 6)  # tree rows; the gaps make the commit move some


class Workbench:
    """The parts of a decode step, each with what the controller does for it, to be run by themselves.

    `batch` texts of `context` random tokens each; `widths` and `nodes` are the sizes that will be measured, and the
    root level and the commit no more than `num_roots` times.
    """

    def __init__(
        self, pair: Pair, batch: int, context: int, *, widths: Sequence[int], nodes: Sequence[int], num_roots: int
    ):
        generator = np.random.default_rng(0)
        vocabulary_size = pair.target.vocabulary_size
        texts = [generator.integers(vocabulary_size, size=context) for _ in range(batch)]
        self._sampler = TokenSampler(
            [Sampling(seed=slot) for slot in range(batch)], vocabulary_size, pair.target.device
        )
        self._target, self._drafter = Target(pair.target), LanguageModelDrafter(pair.drafter, COUPLED, ngrams=True)
        self._verifier = WalkVerifier()
        # A root level leaves two tokens more behind it, each time it is run, and a commit leaves its own.
        capacity = context + max(2, len(COMMITTED)) * num_roots + max(CHUNK, *nodes, *widths) + 3
        self._target.open()
        self._drafter.open()
        for slot, text in enumerate(texts):
            self._target.join(text, capacity)
            self._target.read(slot, self._target.num_unread(slot))
            self._drafter.join(text, capacity)
            self._drafter.read(slot, len(text) - 1)
        self._roots = DraftTree.from_roots(np.array([text[-1] for text in texts]))
        self._trees = {size: _bush(self._roots, size, vocabulary_size) for size in {*nodes, *widths}}
        self._widest = self._trees[max(widths)]
        prices = LatencyTable({}, (1,), (1,), ((1.0,),), (1,), (((1.0,),),), (0,), (((1.0,),),))
        limits = TreeLimits(frontier=max(widths), budget=max(nodes))
        self._selector = Selector(ConfidenceScorer(), limits, objective=Objective(prices))
        self._context = StepContext(
            positions=np.full(batch, context - 1),
            remaining=np.full(batch, 64),
            temperatures=self._sampler.temperatures,
            top_ps=self._sampler.top_ps,
            history=np.tile(START, (batch, 1)),
        )
        self._batch = batch
        self.root(1)

    def root(self, width: int) -> None:
        """A step's first level: read the two tokens that were committed last, append children to the root."""
        self._selector.begin(self._context).frontier(self._roots)
        frontier = np.zeros((self._batch, width), dtype=np.int64)
        tree = self._drafter.expand(self._roots, frontier, self._selector.limits.width, self._sampler)
        self._drafter.commit(tree, np.ones((self._batch, 1), dtype=np.int64), self._roots.tokens[:, 0])

    def draft(self, width: int) -> None:
        """A later level that expands `width` nodes per request."""
        tree = self._widest
        self._selector.begin(self._context).frontier(tree)
        frontier = np.broadcast_to(np.arange(1, width + 1), (self._batch, width)).copy()
        self._drafter.expand(tree, frontier, self._selector.limits.width, self._sampler)
        self._drafter.model.commit(NO_ROWS)
        self._drafter.forget_tree(self._batch)

    def verify(self, num_nodes: int) -> None:
        """A target step over `num_nodes` drafted nodes per request, root left out."""
        tree = self._trees[num_nodes]
        if num_nodes:
            self._selector.begin(self._context).keep(tree)
        rows = self._target.score(tree)
        self._verifier.verify(tree, rows, (), self._sampler, self._context.positions)
        self._target.model.commit(NO_ROWS)

    def commit(self) -> None:
        """Of the rows of a target step."""
        self._target.model.commit(np.tile(COMMITTED, (self._batch, 1)))

    def decide(self, num_nodes: int) -> None:
        """Whether to draft behind a level of `num_nodes` nodes per request, and which to keep."""
        step = self._selector.begin(self._context)
        step.frontier(self._trees[num_nodes])
        step.keep(self._trees[num_nodes])


def _bush(roots: DraftTree, num_nodes: int, vocabulary_size: int) -> DraftTree:
    """Trees of one level with `num_nodes` children: the time of a forward does not depend on the shape."""
    if num_nodes == 0:
        return roots
    batch = len(roots.tokens)
    row: Array = np.zeros((batch, 1, num_nodes), dtype=np.float32)
    tokens = np.arange(num_nodes) % vocabulary_size + row.astype(np.int64)
    children = Children(tokens, row, row, row[:, :, 0], row[:, :, 0])
    return roots.extend(np.zeros((batch, 1), dtype=np.int64), children)
