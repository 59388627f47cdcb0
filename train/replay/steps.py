"""Every step of a replayed policy, so that steps can be binned and priced by another table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...controller.learned.scorer import LearnedScorer
from ...controller.plans.plan import PolicyPlan
from ...controller.policies.base import ShapePolicy
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.fused import FusedScorer
from ...controller.trees.tree import Array
from .recording import Recording
from .replay import ReplayStats, StepTrace, replay


@dataclass(frozen=True)
class Step:
    root: int
    widths: tuple[int, ...]  # nodes expanded by each drafter level
    num_kept: int
    num_accepted: int
    num_tokens: int
    masses: tuple[float, ...] | None  # predicted chance that depth 1, 2, ... is accepted, where the policy has one

    @property
    def expected(self) -> float | None:
        """Predicted accepted length, E(A)."""
        return None if self.masses is None else float(sum(self.masses))


@dataclass(frozen=True)
class Run:
    """A plan replayed over texts: sums and steps per text, in the order of the texts."""

    plan: PolicyPlan
    texts: Sequence[Recording]
    stats: list[ReplayStats]
    steps: list[list[Step]]

    @property
    def total(self) -> ReplayStats:
        return ReplayStats.merged(self.stats)

    def text_ms(self, table: LatencyTable) -> Array:
        """[texts] ms: the same steps on another machine; valid for a policy that does not use prices."""
        return np.array([sum(_price(step, table) for step in steps) for steps in self.steps])

    def token_ms(self, table: LatencyTable) -> Array:
        """[tokens] ms of each generated token, text after text; a step's time is shared evenly by its tokens."""
        return self.per_token([_price(step, table) / step.num_tokens for steps in self.steps for step in steps])

    def per_token(self, values: Sequence[float]) -> Array:
        """[tokens]: the value of each step, repeated for its tokens."""
        return np.repeat(values, [step.num_tokens for steps in self.steps for step in steps])


def replay_steps(plan: PolicyPlan, texts: Sequence[Recording], table: LatencyTable) -> Run:
    """Replay the plan as `replay` does, one policy over all texts, and keep its steps."""
    policy = plan.build()
    stats: list[ReplayStats] = []
    steps: list[list[Step]] = []

    def add(trace: StepTrace) -> None:
        num_kept, root = trace.kept.shape[1] - 1, int(trace.context.positions[0])
        masses = _depth_masses(policy, trace)
        steps[-1].append(Step(root, tuple(trace.widths), num_kept, trace.num_accepted, trace.num_tokens, masses))

    for text in texts:
        steps.append([])
        stats += replay([text], policy, table, add)
    return Run(plan, texts, stats, steps)


def _depth_masses(policy: ShapePolicy, trace: StepTrace) -> tuple[float, ...] | None:
    """The path probabilities predicted for the kept nodes, summed by depth; None for a policy whose score is no
    probability of its own context."""
    if not isinstance(policy, Selector) or not isinstance(
        policy.scorer, ConfidenceScorer | FusedScorer | LearnedScorer
    ):
        return None
    tree, kept = trace.drafted, trace.kept[0, 1:]
    if tree.tokens.shape[1] == 1:
        return ()
    edges = np.asarray(policy.scorer.score(tree, trace.context).accept, dtype=np.float64)
    probs = np.exp(tree.path_sums(np.minimum(edges, 0.0))[0, kept])
    return tuple(np.bincount(tree.depths[0, kept], weights=probs)[1:].tolist())


def _price(step: Step, table: LatencyTable) -> float:
    return table.step_ms(step.widths, step.num_kept, batch=1, context=step.root)
