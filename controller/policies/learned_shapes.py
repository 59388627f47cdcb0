"""The learned choice of a delayed tree: before anything of a step is drawn, the (K, L1, L2) with the largest expected
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
from ..learned.shape_menu import LENGTHS_NAME, answers_of
from ..pricing.latency import LatencyTable
from ..pricing.objective import nearest
from ..pricing.shape_costs import shape_costs
from ..trees.delayed import CHAINS, DEEPEST, MENU, MOST_PATHS, DelayedShape, cut_places
from ..trees.limits import TreeLimits
from ..trees.tree import Array, DraftTree
from .base import WholeTreeStep
from .delayed import last_nodes

log = logging.getLogger(__name__)

# Features [n, F] float32 of roots to expected accepted lengths [n, answers].
ShapeNetwork = Callable[[Array], Array]


class LearnedShapes:
    """A `ShapePolicy` (see `base`) of sampled trees for one verifier, whose `context.agreement` has to be kept.

    `answers` are the verifier's among those of the `network`. A token has to bring as much per millisecond as decoding
    at `speed_ups` (by temperature) times plain speed does; `theta_scale` multiplies that, larger drafts less.
    """

    information = Information.PREDICTABLE
    reads_history = True

    def __init__(
        self,
        network: ShapeNetwork,
        answers: Array,
        table: LatencyTable,
        speed_ups: Mapping[str, float],
        *,
        theta_scale: float = 1.0,
    ):
        paths = 1 if len(answers) == len(CHAINS) else MOST_PATHS
        self.limits = TreeLimits(DEEPEST, 1, paths, max(shape.num_nodes for shape in MENU[: len(answers)]))
        self.num_distrusted = 0  # steps for which the network's answer was no number
        self._network, self._answers, self._contexts = network, answers, table.contexts
        self._speed_ups, self._theta_scale = speed_ups, theta_scale
        # [contexts, ...] milliseconds of each tree, and of a plain step, of a request alone.
        self._costs = np.stack([shape_costs(table, context, chosen=True)[: len(answers)] for context in table.contexts])
        self._plain_costs = np.array([table.verify_costs(0, batch=1, context=size)[0] for size in table.contexts])

    def begin(self, context: StepContext) -> WholeTreeStep:
        shapes = [MENU[place] for place in self.choose(context).tolist()]
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
        return cut_places()[np.minimum(context.max_depths, DEEPEST), places]

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
    speed_ups, answers = checkpoint.speed_ups[verifier], answers_of(verifier, verifiers)
    return LearnedShapes(graph_network(checkpoint.graph), answers, table, speed_ups, theta_scale=theta_scale)


def shaped_frontier(shapes: Sequence[DelayedShape], tree: DraftTree) -> Array:
    """[B, F]: of each tree the ends of its paths as often as they draw next, -1 where it is as deep as its shape."""
    level = int(tree.depths.max())
    ends = last_nodes(tree, level)
    frontier = np.full((len(shapes), max((shape.num_paths for shape in shapes), default=1)), -1)
    for slot, shape in enumerate(shapes):
        if level < shape.trunk_length:
            frontier[slot, 0] = ends[slot, 0]
        elif level == shape.trunk_length < shape.depth:
            frontier[slot, : shape.num_paths] = ends[slot, 0]
        elif level < shape.depth:
            frontier[slot, : shape.num_paths] = ends[slot, : shape.num_paths]
    drawing = (frontier >= 0).any(axis=0)
    return frontier[:, : int(np.nonzero(drawing)[0].max(initial=-1)) + 1]
