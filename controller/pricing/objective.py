"""The choice rule: long-run throughput is a ratio of sums, so maximise E[tokens] - theta * T.

theta is the policy's own long-run tokens per millisecond, the fixed point of Dinkelbach's iteration
(Management Science 13(7), 1967) for maximising E[tokens] / E[T].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from ..ranges import require_above
from ..trees.tree import Array
from .latency import LatencyTable

# Steps over which the running throughput forgets: long enough to be steady, short enough to follow the text.
HORIZON_STEPS = 400
# Plain steps that the running throughput begins with, so that no lucky first step speaks for the run.
PRIOR_STEPS = 8

Temperature = TypeVar("Temperature", float, str)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Prices:
    """What the batch's step costs by its size, in tokens: theta * T, what that time would bring elsewhere."""

    verify: Array  # [budget + 1] by drafted nodes per request
    root: Array  # [frontier + 1] of the first drafter level by nodes expanded per request
    level: Array  # [frontier + 1] of a later one


def best_size(probs: Array, prices: Prices) -> int:
    """How many nodes per request to verify: argmax_n sum over requests of sum(probs[:n]) - theta * T(n).

    `probs` [B, N] are node probabilities, best first, 0 behind each request's last, no more than the budget. All
    requests share one size, for the smaller trees of a batch are padded to the largest: a node less saves nothing. The
    whole menu is searched: T is a staircase, so the first node that does not pay may still be followed by ones that do.
    """
    worth = _worth(probs, prices)
    return int(worth.argmax()) + 1 if worth.max(initial=-np.inf) > -prices.verify[0] else 0


def best_width(probs: Array, predicted: Array, prices: Prices, level: int) -> int:
    """How many frontier nodes per request, of depth `level`, to expand in one more drafter level: 0 where drafting on
    does not pay, else a power of two.

    `probs` [B, N] are those of the drafted nodes, in any order; `predicted` [B, F, W] the expected ones of the children
    of each frontier node, best node first; 0 where a request has fewer.
    Expanding the first f of them is worth J(S + predicted children) - J(S) - theta * t_level(f).
    """
    num_trees, num_drafted = probs.shape
    widths, drafted = _pools(num_drafted, *predicted.shape[1:])
    pools = np.concatenate((probs, predicted.reshape(num_trees, -1)), axis=1)[:, None] * drafted
    pools.sort(axis=2)
    worth = _worth(pools[:, :, ::-1][:, :, : len(prices.verify) - 1], prices).max(axis=1, initial=-prices.verify[0])
    gains = worth[1:] - worth[0] - (prices.level if level else prices.root)[widths]
    best = int(gains.argmax())
    return int(widths[best]) if gains[best] > 0 else 0


@lru_cache(maxsize=1024)
def _pools(num_drafted: int, frontier: int, num_children: int) -> tuple[Array, Array]:
    """The widths to choose from, and [widths + 1, N + F * W] which nodes there are: row 0 without another level, the
    others with the children of the first 1, 2, 4, ... of the frontier."""
    widths = 2 ** np.arange(frontier.bit_length())
    node = np.arange(num_drafted + frontier * num_children)
    drafted = node < num_drafted + num_children * np.concatenate(([0], widths))[:, None]
    for values in (widths, drafted):
        values.setflags(write=False)
    return widths, drafted


def _worth(probs: Array, prices: Prices) -> Array:
    """[..., N] tokens that verifying the first 1, 2, ... of each request's `probs` [B, ..., N] is worth."""
    return probs.sum(axis=0).cumsum(axis=-1) - prices.verify[1 : probs.shape[-1] + 1]


def nearest(by_temperature: Mapping[Temperature, Value], temperature: float) -> Value:
    """What was tuned or measured at the temperature nearest to the one asked for; keys of JSON are digits."""
    return by_temperature[min(by_temperature, key=lambda known: abs(float(known) - temperature))]


def bucket(batch: int, temperature: float) -> tuple[int, float]:
    """The steps that share one account of throughput."""
    return batch, round(temperature, 1)


class Objective:
    """Prices a step by the latency table, and keeps theta for each batch size and temperature.

    theta is given, or runs: it starts at plain decoding and follows the tokens committed per priced millisecond,
    which is Dinkelbach's iteration made online. Prices come from the table, not from a clock, so the same requests
    give the same trees. `scale` is the line search around the fixed point, for predictions that are not exact; given
    by temperature, that of the nearest one counts.
    """

    def __init__(self, table: LatencyTable, *, theta: float | None = None, scale: float | Mapping[float, float] = 1.0):
        self.table = table
        self.scales = dict(scale) if isinstance(scale, Mapping) else {0.0: scale}
        for value in self.scales.values():
            require_above("theta_scale", value, 0)
        self._theta = theta
        self.last_theta = 0.0  # of the last step that was priced, times its scale
        # Over all steps that verified drafts: tokens expected to be accepted, and those that were.
        self.num_expected = self.num_accepted = 0.0
        # By batch size and temperature: (tokens, ms), both decaying.
        self._totals: dict[tuple[int, float], tuple[float, float]] = {}

    def prices(self, temperature: float, *, batch: int, context: int, budget: int, frontier: int) -> Prices:
        """Those of a step of `batch` requests whose longest text is `context` tokens long."""
        size = {"batch": batch, "context": context}
        self.last_theta = theta = self.theta(temperature, **size)
        root, level = (self.table.draft_costs(frontier, level=level, **size) for level in (0, 1))
        return Prices(theta * self.table.verify_costs(budget, **size), theta * root, theta * level)

    def theta(self, temperature: float, *, batch: int, context: int) -> float:
        """Tokens of the whole batch per millisecond that a step has to beat."""
        scale = nearest(self.scales, temperature)
        if self._theta is not None:
            return self._theta * scale
        tokens, ms = self._running(temperature, batch, context)
        return tokens / ms * scale

    def record(self, temperature: float, num_tokens: float, step_ms: float, *, batch: int, context: int) -> None:
        """Count a finished step: tokens it committed for all requests, and its price."""
        decay = 1.0 - 1.0 / HORIZON_STEPS
        tokens, ms = self._running(temperature, batch, context)
        self._totals[bucket(batch, temperature)] = (tokens * decay + num_tokens, ms * decay + step_ms)

    def judge(self, num_expected: float, num_accepted: float) -> None:
        """Count what a step's nodes were expected to bring, and what they brought."""
        self.num_expected += num_expected
        self.num_accepted += num_accepted

    def _running(self, temperature: float, batch: int, context: int) -> tuple[float, float]:
        """Tokens and milliseconds so far, a few plain steps before anything was recorded."""
        key = bucket(batch, temperature)
        if key in self._totals:
            return self._totals[key]
        plain_ms = float(self.table.verify_costs(0, batch=batch, context=context)[0])
        return PRIOR_STEPS * batch, PRIOR_STEPS * plain_ms
