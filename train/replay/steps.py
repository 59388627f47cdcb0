"""Every step of a replayed policy, so that steps can be binned and priced by another table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...controller.context import StepContext
from ...controller.contract import Information
from ...controller.learned.scorer import LearnedScorer
from ...controller.plans.plan import PolicyPlan
from ...controller.policies.base import ShapePolicy
from ...controller.policies.selector import Selector
from ...controller.pricing.latency import LatencyTable
from ...controller.scorers.confidence import ConfidenceScorer
from ...controller.scorers.fused import FusedScorer
from ...controller.trees.limits import TreeLimits
from ...controller.trees.tree import Array, DraftTree
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
    def label(self) -> str:
        return self.plan.label

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
    policy = _Recorded(plan.build())
    stats, steps = [], []
    for text in texts:
        seen: list[StepTrace] = []
        policy.masses.clear()
        stats += replay([text], policy, table, seen.append)
        last = len(text.tokens) - 1
        steps.append(
            [
                Step(
                    root=trace.root,
                    widths=tuple(trace.widths),
                    num_kept=int(trace.kept.num_nodes[0]) - 1,
                    num_accepted=trace.accepted_length,
                    num_tokens=min(trace.accepted_length + 1, last - trace.root),
                    masses=masses,
                )
                for trace, masses in zip(seen, policy.masses, strict=True)
            ]
        )
    return Run(plan, texts, stats, steps)


class _Recorded:
    """A policy that also records the path probabilities it predicts for the nodes it keeps, summed by depth."""

    def __init__(self, policy: ShapePolicy):
        self._policy = policy
        self.masses: list[tuple[float, ...] | None] = []

    @property
    def information(self) -> Information:
        return self._policy.information

    @property
    def reads_history(self) -> bool:
        return self._policy.reads_history

    @property
    def limits(self) -> TreeLimits:
        return self._policy.limits

    def begin(self, context: StepContext) -> "NotingStep":
        return NotingStep(self._policy, context, self.masses)


class NotingStep:
    """A step of such a policy, which adds to `masses` what it keeps."""

    def __init__(self, policy: ShapePolicy, context: StepContext, masses: list[tuple[float, ...] | None]):
        self._policy, self._context, self._masses = policy, context, masses
        self._inside = policy.begin(context)

    def frontier(self, tree: DraftTree) -> Array:
        return self._inside.frontier(tree)

    def keep(self, tree: DraftTree) -> Array:
        nodes = self._inside.keep(tree)
        self._masses.append(_depth_masses(self._policy, tree, nodes, self._context))
        return nodes

    def record(self, tree: DraftTree, level_widths: list[int], num_tokens: Array) -> None:
        self._inside.record(tree, level_widths, num_tokens)


def _depth_masses(policy: ShapePolicy, tree: DraftTree, nodes: Array, context: StepContext) -> tuple[float, ...] | None:
    """None for a policy whose score is no probability of its own context."""
    if not isinstance(policy, Selector) or not isinstance(
        policy.scorer, ConfidenceScorer | FusedScorer | LearnedScorer
    ):
        return None
    if tree.tokens.shape[1] == 1:
        return ()
    edges = np.asarray(policy.scorer.score(tree, context).accept, dtype=np.float64)
    kept = nodes[0, 1:]
    probs = np.exp(tree.path_sums(np.minimum(edges, 0.0))[0, kept])
    return tuple(np.bincount(tree.depths[0, kept], weights=probs)[1:].tolist())


def _price(step: Step, table: LatencyTable) -> float:
    return table.step_ms(step.widths, step.num_kept, batch=1, context=step.root)
