"""The candidates of a step, level by level."""

from ..controller.policies.base import Step
from ..controller.trees.tree import DraftTree
from .drafters.base import Drafter
from .sampling import TokenSampler
from .stats import Clock


def grow(
    tree: DraftTree, step: Step, drafter: Drafter, width: int, sampler: TokenSampler, clock: Clock
) -> tuple[DraftTree, list[int]]:
    """Draft until the frontier is empty, that last decision not charged yet, or nothing grows; the trees, and the nodes
    expanded by each level. Each node gets up to `width` children."""
    widths: list[int] = []
    while True:
        frontier = step.frontier(tree)
        if frontier.shape[1] == 0:
            return tree, widths
        clock.charge("controller")
        num_nodes = int(tree.num_nodes.sum())
        tree = drafter.expand(tree, frontier, width, sampler)
        widths.append(max(len({*row} - {-1}) for row in frontier.tolist()) + drafter.num_ahead)
        clock.charge("draft")
        if int(tree.num_nodes.sum()) == num_nodes:  # nothing was found to draft: it would be asked for again
            return tree, widths
