"""The learned choice of a sampled tree: before anything of a step is drawn, the shape with the largest expected
accepted length less what its time would bring elsewhere.

Everything it goes by is a function of the request's own prefix, and prices are those of one request alone: so a
request's shapes, and with them its text, do not depend on the others of its batch.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..checkpoint.shapes import ShapesCheckpoint
from ..context import StepContext
from ..contract import Information
from ..errors import InputError
from ..learned.scorer import INPUT_NAME, open_session
from ..learned.shape_features import shape_features
from ..learned.shape_menu import LENGTHS_NAME, answers_of, menu_of
from ..pricing.latency import LatencyTable
from ..pricing.objective import nearest
from ..pricing.shape_costs import shape_costs
from ..trees.delayed import DEEPEST
from ..trees.limits import TreeLimits
from ..trees.menu import Menu, SettledShape
from ..trees.tree import Array, DraftTree
from .base import WholeTreeStep
from .delayed import last_nodes

log = logging.getLogger(__name__)

# Features [n, F] float32 of roots to expected accepted lengths [n, answers].
ShapeNetwork = Callable[[Array], Array]


class LearnedShapes:
    """A `ShapePolicy` (see `base`) of sampled trees for one verifier, whose `context.agreement` has to be kept.

    `answers` are those of the `network` for the verifier's `menu`. A token has to bring as much per millisecond as
    decoding at `speed_ups` (by temperature) times plain speed does; `theta_scale` multiplies that, larger drafts less.
    """

    information = Information.PREDICTABLE
    reads_history = True

    def __init__(
        self,
        network: ShapeNetwork,
        answers: Array,
        menu: Menu,
        table: LatencyTable,
        speed_ups: Mapping[str, float],
        *,
        theta_scale: float = 1.0,
    ):
        frontier = max(len(shape.drawing(level)) for shape in menu.shapes for level in range(DEEPEST))
        self.limits = TreeLimits(DEEPEST, 1, frontier, max(shape.num_nodes for shape in menu.shapes))
        self.num_distrusted = 0  # steps for which the network's answer was no number
        self._network, self._answers, self._menu, self._contexts = network, answers, menu, table.contexts
        self._speed_ups, self._theta_scale = speed_ups, theta_scale
        # [contexts, ...] milliseconds of each tree, and of a plain step, of a request alone.
        self._costs = np.stack([shape_costs(table, context, menu, chosen=True) for context in table.contexts])
        self._plain_costs = np.array([table.verify_costs(0, batch=1, context=size)[0] for size in table.contexts])

    def begin(self, context: StepContext) -> WholeTreeStep:
        shapes = [self._menu.shapes[place] for place in self.choose(context).tolist()]
        return WholeTreeStep(context, lambda tree, _: shaped_frontier(shapes, tree))

    def choose(self, context: StepContext) -> Array:
        """[B] places on the menu."""
        assert context.agreement is not None, "the loop did not keep what the models said at the last position"
        features = shape_features(context.agreement, context.conditions, context.positions)
        lengths = self._network(features)[:, self._answers]
        buckets = np.searchsorted(self._contexts[:-1], context.positions)
        scales = [nearest(self._speed_ups, temperature) for temperature in context.temperatures.tolist()]
        thetas = np.array(scales) * self._theta_scale / self._plain_costs[buckets]
        worth = lengths - thetas[:, None] * self._costs[buckets]
        sound = np.isfinite(worth).all(axis=1)
        if not sound.all():
            self._note_strange(int((~sound).sum()))
        places = np.where(sound, np.nan_to_num(worth, nan=-np.inf).argmax(axis=1), 0)
        return self._menu.cuts[np.minimum(context.max_depths, DEEPEST), places]

    def _note_strange(self, count: int) -> None:
        if not self.num_distrusted:
            log.warning("the selector answered with no length; nothing is drafted in such a step")
        self.num_distrusted += count


def graph_network(graph: bytes) -> ShapeNetwork:
    """An exported graph, run by ONNX Runtime."""
    session = open_session(graph)

    def run(features: Array) -> Array:
        (lengths,) = session.run([LENGTHS_NAME], {INPUT_NAME: features})
        return np.asarray(lengths)

    return run


def learned_shapes(
    checkpoint: ShapesCheckpoint, verifier: str, table: LatencyTable, *, theta_scale: float = 1.0
) -> LearnedShapes:
    """InputError where the checkpoint does not choose shapes for the verifier."""
    verifiers = checkpoint.config.verifiers
    if verifier not in verifiers:
        raise InputError(
            f"the selector chooses shapes for {', '.join(verifiers)}, got verifier '{verifier}'; name one of those, or "
            "give that verifier a tree as speculation.sampled"
        )
    network, answers, menu = graph_network(checkpoint.graph), answers_of(verifier, verifiers), menu_of(verifier)
    return LearnedShapes(network, answers, menu, table, checkpoint.speed_ups[verifier], theta_scale=theta_scale)


def shaped_frontier(shapes: Sequence[SettledShape], tree: DraftTree) -> Array:
    """[B, F]: of each tree the ends of its paths as often as they draw next, -1 where it is as deep as its shape."""
    level = int(tree.depths.max())
    ends, drawing = last_nodes(tree, level), [shape.drawing(level) for shape in shapes]
    frontier = np.full((len(shapes), max(map(len, drawing))), -1)
    for slot, paths in enumerate(drawing):
        frontier[slot, : len(paths)] = ends[slot, paths]
    return frontier
