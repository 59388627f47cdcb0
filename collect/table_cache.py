"""The stored latency table, held against a few live measurements before it is used again."""

import logging
from dataclasses import replace
from statistics import median

from ..controller.errors import InputError
from ..controller.latency import LatencyTable, cache_path
from ..runtime.pair import Pair
from ..runtime.table_fit import PartRatios
from .profile import ProfileConfig, measure, renew_table

CHECK_REPEATS = 5

log = logging.getLogger(__name__)


def cached_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """This machine's stored table; measured first where there is none, and again, over what it spans, where it does
    not fit any more."""
    path = cache_path(pair.latency_key)
    if not path.exists():
        return renew_table(pair, config)
    table = LatencyTable.load(path)
    ratios = live_ratios(table, measure(pair, few_sizes(table)))
    if not ratios.fit:  # the machine may have been busy for just that second
        ratios = live_ratios(table, measure(pair, few_sizes(table)))
    if ratios.fit:
        return table
    log.warning("the stored latency table does not fit this machine now: %s; measuring it again", ratios.text)
    spans = {name: getattr(table, name) for name in ("batches", "contexts", "widths", "nodes")}
    return renew_table(pair, replace(config, **spans))


def new_table(pair: Pair, config: ProfileConfig) -> LatencyTable:
    """One measured now, and stored too, unless the stored one knows of larger batches."""
    path, table = cache_path(pair.latency_key), measure(pair, config)
    try:
        widest = LatencyTable.load(path).batches[-1] if path.exists() else 0
    except InputError:  # damaged, or of an older build
        widest = 0
    if table.batches[-1] >= widest:
        table.save(path)
    return table


def few_sizes(table: LatencyTable) -> ProfileConfig:
    """The corners of a table: a second's worth of measurements."""
    return ProfileConfig(
        batches=table.batches[:1],
        contexts=table.contexts[:1],
        widths=tuple(sorted({1, table.widths[-1]})),
        nodes=tuple(sorted({0, table.nodes[-1]})),
        repeats=CHECK_REPEATS,
    )


def live_ratios(table: LatencyTable, live: LatencyTable) -> PartRatios:
    """Measured over stored milliseconds, the median over the levels and over the target steps in `live`."""
    place = {"batch": live.batches[0], "context": live.contexts[0]}
    first, later = (
        live.draft_costs(live.widths[-1], level=level, **place)[1:]
        / table.draft_costs(live.widths[-1], level=level, **place)[1:]
        for level in (0, 1)
    )
    verify = live.verify_costs(live.nodes[-1], **place) / table.verify_costs(live.nodes[-1], **place)
    levels = [first[0], *(later[width - 1] for width in live.widths)]
    return PartRatios(float(median(levels)), float(median(verify[count] for count in live.nodes)))
