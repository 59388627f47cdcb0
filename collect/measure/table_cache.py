"""The stored latency table, checked against a few live measurements before it is used again."""

import logging
from dataclasses import replace
from statistics import median

import torch

from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.latency_cache import cache_path, stored_table
from ...runtime.pair import Pair
from ...runtime.table_fit import PartRatios
from .profile import ProfileConfig, measure, renew_on_fastest

CHECK_REPEATS = 5

log = logging.getLogger(__name__)


def cached_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """This machine's stored table; measured first where there is none, and again, over what it spans, where it no
    longer fits."""
    table = stored_table(pair.latency_key)
    if table is None:
        return renew_on_fastest(pair, config, torch.get_num_threads())
    ratios = live_ratios(table, measure(pair, few_sizes(table)))
    if not ratios.fit:  # the machine may have been busy for that second only
        ratios = live_ratios(table, measure(pair, few_sizes(table)))
    if ratios.fit:
        return table
    log.warning("the stored latency table does not fit this machine now: %s; measuring it again", ratios.text)
    spans = {name: getattr(table, name) for name in ("batches", "contexts", "widths", "nodes")}
    return renew_on_fastest(pair, replace(config, **spans), torch.get_num_threads())


def new_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """A table measured now; stored too, unless the stored one spans larger batches."""
    stored = stored_table(pair.latency_key)
    if stored is None:
        return renew_on_fastest(pair, config, torch.get_num_threads())
    table = measure(pair, config)
    if table.batches[-1] >= stored.batches[-1]:
        table.save(cache_path(pair.latency_key))
    return table


def few_sizes(table: LatencyTable) -> ProfileConfig:
    """The corners of a table: about a second of measurements."""
    return ProfileConfig(
        batches=table.batches[:1],
        contexts=table.contexts[:1],
        widths=tuple(sorted({1, table.widths[-1]})),
        nodes=tuple(sorted({0, table.nodes[-1]})),
        repeats=CHECK_REPEATS,
    )


def live_ratios(table: LatencyTable, live: LatencyTable) -> PartRatios:
    """Measured over stored milliseconds, the median over the levels and over the target steps in `live`."""
    cell = {"batch": live.batches[0], "context": live.contexts[0]}
    first, later = (
        live.draft_costs(live.widths[-1], level=level, **cell)[1:]
        / table.draft_costs(live.widths[-1], level=level, **cell)[1:]
        for level in (0, 1)
    )
    verify = live.verify_costs(live.nodes[-1], **cell) / table.verify_costs(live.nodes[-1], **cell)
    levels = [first[0], *(later[width - 1] for width in live.widths)]
    return PartRatios(float(median(levels)), float(median(verify[count] for count in live.nodes)))
