"""What steps of a pair cost on this machine, as `profile` has measured."""

from ..controller.errors import InputError
from ..controller.pricing.latency import LatencyTable
from ..controller.pricing.latency_cache import stored_table
from ..controller.pricing.stacks import stacked_table
from .pair import Pair


def stored_prices(pair: Pair, ahead: int = 0) -> LatencyTable | None:
    """The pair's table; for a stack, of which the smaller drafter drafts `ahead` tokens, those of both drafters added
    up. None where one is missing."""
    table, below = stored_table(pair.latency_key), pair.below
    if below is None or table is None:
        return table
    lower = stored_table(below.latency_key)
    return None if lower is None else stacked_table(table, lower, ahead)


def prices(pair: Pair, ahead: int = 0) -> LatencyTable:
    """The same; InputError where one is missing."""
    table = stored_prices(pair, ahead)
    if table is None:
        threads = pair.latency_key["threads"]
        what = "the pair" if pair.below is None else f"each of the drafters {pair.config.drafter} with the target"
        raise InputError(
            f"this machine has no latency table for {what} on {threads} CPU threads yet; run `treewright profile` (a "
            "minute) with the same --pair options" + ("" if pair.below is None else ", once with each as pair.drafter")
        )
    return table
