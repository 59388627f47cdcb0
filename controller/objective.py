"""The choice rule: long-run throughput is a ratio of sums, so maximise E[tokens] - theta * T.

theta is the policy's own long-run tokens per millisecond, the fixed point of Dinkelbach's iteration
(Management Science 13(7), 1967) for maximising E[tokens] / E[T].
"""

from collections.abc import Sequence

import numpy as np

from .latency import LatencyTable
from .tree import Array

# Steps over which the running throughput forgets: long enough to be steady, short enough to follow the text.
HORIZON_STEPS = 400


def best_size(probs: Array, verify_costs: Array, theta: float) -> tuple[int, float]:
    """How many of the nodes to verify, and what that is worth in tokens: argmax_n sum(probs[:n]) - theta * T(n).

    `probs` [N] are node probabilities, best first; `verify_costs` [>= N + 1] ms by node count. The whole menu is
    searched: T is a staircase, so the first node that does not pay may still be followed by ones that do.
    """
    worth = _worth(probs, verify_costs, theta)
    size = int(np.argmax(worth))
    return size, float(worth[size])


def best_width(
    probs: Array,
    predicted: Array,
    draft_costs: Array,
    verify_costs: Array,
    theta: float,
    widths: Sequence[int],
) -> int:
    """How many frontier nodes to expand in one more drafter level; 0 where drafting on does not pay.

    `probs` [N] are those of the drafted nodes, in any order; `predicted` [F, W] the expected ones of the children of
    each frontier node, best node first.
    Expanding the first f of them is worth J(S + predicted children) - J(S) - theta * t_level(f).
    """
    widths = [width for width in widths if width <= len(predicted)]
    # Row 0: what is drafted; row k: with the children of the first widths[k - 1] nodes besides. No node: -inf.
    pool = np.full((len(widths) + 1, len(probs) + predicted.size), -np.inf)
    pool[:, : len(probs)] = probs
    for row, width in enumerate(widths, start=1):
        pool[row, len(probs) : len(probs) + predicted[:width].size] = predicted[:width].ravel()
    pool.sort(axis=1)
    budget = len(verify_costs) - 1
    worth = _worth(pool[:, ::-1][:, :budget], verify_costs, theta).max(axis=1)
    gains = worth[1:] - worth[0] - theta * draft_costs[widths]
    return widths[int(gains.argmax())] if len(widths) and gains.max() > 0 else 0


def _worth(probs: Array, verify_costs: Array, theta: float) -> Array:
    """[..., N + 1] tokens that verifying the 0, 1, ... first of `probs` [..., N] is worth."""
    worth = np.zeros((*probs.shape[:-1], probs.shape[-1] + 1))
    np.cumsum(probs, axis=-1, out=worth[..., 1:])
    return worth - theta * verify_costs[: worth.shape[-1]]


class Objective:
    """Prices a step by the latency table, and keeps theta for each temperature.

    theta is given, or runs: it starts at plain decoding and follows the tokens committed per priced millisecond,
    which is Dinkelbach's iteration made online. Prices come from the table, not from a clock, so the same requests
    give the same trees. `scale` is the line search around the fixed point, for predictions that are not exact.
    """

    def __init__(self, table: LatencyTable, *, theta: float | None = None, scale: float = 1.0):
        self.table = table
        self.scale = scale
        self._theta = theta
        self._totals: dict[float, tuple[float, float]] = {}  # temperature -> (tokens, ms), both decaying

    def theta(self, temperature: float, *, batch: int, context: int) -> float:
        """Tokens per millisecond that a step has to beat."""
        if self._theta is not None:
            return self._theta * self.scale
        plain_ms = float(self.table.verify_costs(0, batch=batch, context=context)[0]) / batch
        tokens, ms = self._totals.get(round(temperature, 1), (1.0, plain_ms))
        return tokens / ms * self.scale

    def record(self, temperature: float, num_tokens: float, step_ms: float) -> None:
        """Count a finished step: tokens it committed, and its price."""
        decay = 1.0 - 1.0 / HORIZON_STEPS
        tokens, ms = self._totals.get(round(temperature, 1), (0.0, 0.0))
        self._totals[round(temperature, 1)] = (tokens * decay + num_tokens, ms * decay + step_ms)
