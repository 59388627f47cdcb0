"""What a stack of drafters costs, from tables of each drafter with the target."""

from dataclasses import replace

from .latency import LatencyTable

# A guess less likely than this is not read ahead, however cheap a row is, nor where its price is not known.
LEAST_PROB = 0.01


def stacked_table(upper: LatencyTable, lower: LatencyTable, levels: int) -> LatencyTable:
    """The table `upper` of a drafter below which another one, with the table `lower`, drafts so many levels of one node
    before the first: a step's first level costs all of them."""
    below = [
        [lower.levels_ms([1] * levels, batch=batch, context=context) for context in upper.contexts]
        for batch in upper.batches
    ]
    both = zip(upper.root_ms, below, strict=True)
    return replace(upper, root_ms=tuple(tuple(map(sum, zip(*rows, strict=True))) for rows in both))


def least_prob(table: LatencyTable) -> float:
    """The probability at which a node read ahead is worth its row in a drafter's forward, at the pace of plain
    decoding, one token per plain step."""
    size = {"batch": table.batches[0], "context": table.contexts[0]}
    widest = table.widths[-1]
    costs = table.draft_costs(widest, level=1, **size)
    row_ms = (costs[widest] - costs[1]) / max(1, widest - 1)
    return max(LEAST_PROB, float(row_ms / table.verify_costs(0, **size)[0]))
