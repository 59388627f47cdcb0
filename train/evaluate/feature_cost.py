"""Microseconds per step of the learned score's features on this machine: computing the columns, running the network.

Columns that need the models' rows cost more where a model runs; that part is not measured here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from ...controller.checkpoint import SelectorBundle
from ...controller.context import StepContext
from ...controller.learned.features import FEATURES, node_features
from ...controller.learned.numpy_model import PerceptronNetwork
from ...controller.learned.torch_model import SelectorModel
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.pricing.objective import Objective
from ...controller.scorers.base import Scorer, Scores
from ...controller.trees.tree import DraftTree
from ..replay.recording import Recording
from ..replay.replay import replay

# Texts whose steps are timed, and how often each step is.
MOST_TEXTS = 3
REPEATS = 15


@dataclass(frozen=True)
class StepCost:
    """Microseconds per step of the learned policy."""

    features_us: float  # all columns
    network_us: dict[int, float]  # by the number of columns it reads

    @property
    def total_us(self) -> float:
        return self.features_us + self.network_us[len(FEATURES)]

    def of_columns(self, count: int) -> float:
        """Of `count` columns: their even share of computing all, and what the narrower network saves."""
        saved = self.network_us[len(FEATURES)] - self.network_us[len(FEATURES) - count]
        return self.features_us * count / len(FEATURES) + max(0.0, saved)


def measure_step_cost(
    selector: SelectorBundle,
    table: LatencyTable,
    recordings: Sequence[Recording],
    *,
    width: int,
    hidden_size: int,
    removed: Collection[int],
) -> StepCost:
    """On the calls of a replay of the first texts; `removed` are the column counts that `of_columns` is called with."""
    recorder = RecordingScorer(selector.scorer())
    policy = Selector(recorder, selector.config.limits, objective=Objective(table))
    num_steps = sum(stats.num_steps for stats in replay(recordings[:MOST_TEXTS], policy, table))
    rows = [node_features(*call).reshape(-1, len(FEATURES)) for call in recorder.calls]
    jobs: dict[int, Callable[[], object]] = {0: partial(_call_all, node_features, recorder.calls)}
    for count in {len(FEATURES), *(len(FEATURES) - count for count in removed)} - {0}:
        weights = {name: value.numpy() for name, value in SelectorModel(count, width, hidden_size).state_dict().items()}
        network = PerceptronNetwork.from_weights(weights, count)
        assert network is not None, "a selector's own weights"
        jobs[count] = partial(_call_all, network, [(np.ascontiguousarray(each[:, :count]),) for each in rows])
    seconds: dict[int, list[float]] = {count: [] for count in jobs}
    # Interleaved, so that load on the machine affects all jobs alike.
    for _ in range(REPEATS):
        for count, job in jobs.items():
            started = perf_counter()
            job()
            seconds[count].append(perf_counter() - started)
    us = {count: 1e6 * median(times) / num_steps for count, times in seconds.items()}
    return StepCost(us[0], us | {0: 0.0})


def _call_all(function: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    for arguments in calls:
        function(*arguments)


class RecordingScorer:
    """A scorer that records the nodes that are new at each call, whose features the learned score computes."""

    reads_history = True

    def __init__(self, scorer: Scorer):
        self.calls: list[tuple[DraftTree, StepContext, int]] = []  # arguments of `node_features`
        self._scorer = scorer

    def score(self, tree: DraftTree, context: StepContext, before: Scores | None = None) -> Scores:
        self.calls.append((tree, context, int(before.tree.num_nodes.min()) if before is not None else 0))
        return self._scorer.score(tree, context, before)
