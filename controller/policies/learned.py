"""The learned policy: a checkpoint's score under the choice rule of this machine."""

from ..checkpoint import Checkpoint
from ..latency import LatencyTable
from ..objective import Objective
from ..selector import Selector


def learned_selector(checkpoint: Checkpoint, table: LatencyTable, *, theta_scale: float = 1.0) -> Selector:
    """`theta_scale` is the line search around the choice rule's theta; larger drafts less."""
    objective = Objective(table, scale=theta_scale)
    return Selector(checkpoint.scorer(), checkpoint.config.limits, objective=objective)
