"""Which settings of each policy are run live: the best of those that replay has ranked."""

from collections.abc import Sequence

from ....controller.checkpoint import SelectorBundle
from ....controller.plans.grids import policy_families
from ....controller.plans.plan import PolicyPlan
from ....controller.plans.setting import Setting
from ....controller.pricing.latency import LatencyTable

# Of a grid that replay has ranked, so many settings are run live.
NUM_FINALISTS = 2


def finalists(
    checkpoint: SelectorBundle, table: LatencyTable, settings: Sequence[Setting]
) -> dict[tuple[str, str], Sequence[PolicyPlan]]:
    """Of each policy, by (family, scheme), the plans that replay found best, best first; its whole grid where replay
    has not ranked it under this setting."""
    return {
        (family.name, setting.scheme): [
            family.plan(each) for each in checkpoint.tuned.at(setting, family.name)[:NUM_FINALISTS] or family.grid
        ]
        for setting in settings
        for family in policy_families(checkpoint, table, setting)
    }
