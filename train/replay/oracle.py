"""An upper bound on every policy: an oracle that knows the following text.

Given the noise, the target's text is certain, so under the coupled scheme the true probabilities are 0 and 1. No policy
knows them, hence part of the gap to this bound cannot be closed.
"""

import numpy as np

from ...controller.pricing.latency import LatencyTable
from .recording import Recording

ORACLE = "oracle"


def oracle_ms(recording: Recording, table: LatencyTable) -> float:
    """The least priced time to generate the text: each step drafts and verifies only nodes the text runs through.

    Backward dynamic programme over the roots: V(i) = min over d of T(d levels of one node, d nodes) + V(i + d + 1).
    """
    last = len(recording.tokens) - 1
    cost_to_end = np.zeros(last + 2)
    for root in range(last - 1, recording.prompt_length - 2, -1):
        depths = range(_match_length(recording, root) + 1)
        cost_to_end[root] = min(
            table.step_ms([1] * depth, depth, batch=1, context=root) + cost_to_end[min(root + depth + 1, last)]
            for depth in depths
        )
    return float(cost_to_end[recording.prompt_length - 1])


def _match_length(recording: Recording, root: int) -> int:
    """How many tokens after the root are on one path of its envelope."""
    envelope = recording.envelopes.get(root)
    if envelope is None:
        return 0
    node, length = 0, 0
    for token in recording.tokens[root + 1 :]:
        children = envelope.children[node]
        matches = children[(children >= 0) & (envelope.tokens[children] == token)]
        if len(matches) == 0:
            break
        node, length = int(matches[0]), length + 1
    return length
