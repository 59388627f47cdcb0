"""The learned policy: a trained selector's score under the choice rule of this machine."""

from collections.abc import Mapping

from ..checkpoint import SelectorBundle
from ..pricing.latency import LatencyTable
from ..pricing.objective import Objective
from .selector import Selector

LEARNED = "learned"
# Where replay tuned nothing.
UNTUNED = {0.0: 1.0}


def learned_selector(
    selector: SelectorBundle, table: LatencyTable, *, theta_scale: float | Mapping[float, float] = 1.0
) -> Selector:
    """`theta_scale` is the line search around the choice rule's theta, one or by temperature; larger drafts less."""
    objective = Objective(table, scale=theta_scale)
    return Selector(selector.scorer(), selector.config.limits, objective=objective)


def tuned_scales(selector: SelectorBundle) -> Mapping[float, float]:
    """The theta scale that replay found best, by temperature."""
    return selector.tuned.best(selector.config.scheme, LEARNED, "theta_scale") or UNTUNED
