"""Interleaved runs of many policies on the same prompts, and their speeds, paired by prompt."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from ....controller.console import track
from ....controller.intervals import Interval, ratio_interval
from ....controller.plans.plan import PolicyPlan
from .policies import Job, Policy, Run

# Length of the texts in the first round, which is dropped.
WARM_UP_TOKENS = 8


class Speed(NamedTuple):
    """Tokens per second, and their ratio to plain decoding with its 95 % interval; columns of a report's rows."""

    tokens_per_second: float
    speed_up: float
    speed_up_95: list[float]

    @classmethod
    def of(cls, runs: Sequence[Run], plain: Sequence[Run]) -> Self:
        ratio, low, high = speed_up(runs, plain)
        return cls(round(tokens_per_second(runs), 1), round(ratio, 3), [round(low, 3), round(high, 3)])


def run_interleaved(policies: Sequence[Policy], jobs: Sequence[Job], label: str) -> list[list[Run]]:
    """[policy][job]: every policy on every job; per job the order is shuffled, and a first short round is dropped."""
    generator = np.random.default_rng(0)
    for policy in policies:
        policy.run(jobs[0]._replace(max_tokens=WARM_UP_TOKENS))
    runs: list[list[Run]] = [[] for _ in policies]
    for job in track(jobs, label):
        for number in generator.permutation(len(policies)):
            runs[number].append(policies[number].run(job))
    return runs


def tuned(
    grids: Sequence[Sequence[PolicyPlan]], make: Callable[[PolicyPlan], Policy], jobs: Sequence[Job], label: str
) -> list[PolicyPlan]:
    """The plan of each grid with the most tokens per priced millisecond.

    Steps are priced by the latency table: on few short texts, measured time depends more on the machine
    than on the policy.
    """
    plans = [plan for grid in grids for plan in grid]
    runs = iter(run_interleaved([make(plan) for plan in plans], jobs, label))
    chosen = []
    for grid in grids:
        of_grid = [next(runs) for _ in grid]
        speeds = [sum(len(run.tokens) for run in of) / sum(run.priced_ms for run in of) for of in of_grid]
        chosen.append(grid[int(np.argmax(speeds))])
    return chosen


def tokens_per_second(runs: Sequence[Run]) -> float:
    return sum(len(run.tokens) for run in runs) / sum(run.seconds for run in runs)


def speed_up(runs: Sequence[Run], plain: Sequence[Run]) -> Interval:
    """Ratio of tokens per second to `plain` on the same jobs, with its interval over jobs; NaN bounds for one job."""
    ratio = ratio_interval([run.seconds for run in plain], [run.seconds for run in runs])
    return ratio if len(runs) > 1 else Interval(ratio.value, float("nan"), float("nan"))


def num_unlike(runs: Sequence[Run], plain: Sequence[Run]) -> int:
    """Runs whose tokens differ from those of plain decoding."""
    return sum(run.tokens != other.tokens for run, other in zip(runs, plain, strict=True))


def repeated_four_grams(texts: Sequence[Sequence[int]]) -> float:
    """Share of 4-grams that occurred before in their text: how far a small model's text loops."""
    repeated = total = 0
    for tokens in texts:
        grams = Counter(zip(*(tokens[start:] for start in range(4)), strict=False))
        total += sum(grams.values())
        repeated += sum(grams.values()) - len(grams)
    return repeated / total if total else 0.0
