"""Steps of a batch whose requests draft by policies of their own."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..context import StepContext
from ..trees.tree import Array, DraftTree
from .base import ShapePolicy, Step


def begin_step(policy: ShapePolicy, own: Sequence[ShapePolicy | None], context: StepContext) -> Step:
    """The next step of requests that go by `policy`, but for those that have their `own`."""
    if not any(own):
        return policy.begin(context)
    by_request = [policy if each is None else each for each in own]
    policies = [*dict.fromkeys(by_request)]
    owners = np.array([policies.index(each) for each in by_request])
    # No policy drafts anything for the requests of another: it sees them at their last tokens.
    remaining = [np.where(owners == number, context.remaining, 1) for number in range(len(policies))]
    steps = [each.begin(replace(context, remaining=left)) for each, left in zip(policies, remaining, strict=True)]
    return MixedStep(steps, owners)


class MixedStep:
    """A `Step` (see `base`) in which each request is answered for by the step of its policy, `steps[owners[b]]`.

    It teaches nobody anything: tokens and time are those of all policies together.
    """

    log_values = None

    def __init__(self, steps: Sequence[Step], owners: Array):
        self._steps = steps
        self._owners = owners

    def frontier(self, tree: DraftTree) -> Array:
        return self._joined([step.frontier(tree) for step in self._steps])

    def keep(self, tree: DraftTree) -> Array:
        return self._joined([step.keep(tree) for step in self._steps])

    def record(self, tree: DraftTree, level_widths: list[int], path: Array) -> None:
        pass

    def _joined(self, answers: Sequence[Array]) -> Array:
        """Each request's nodes [B, F] of the answers [B, any], -1 behind its last."""
        nodes = np.full((len(self._owners), max(answer.shape[1] for answer in answers)), -1)
        for number, answer in enumerate(answers):
            rows = self._owners == number
            nodes[rows, : answer.shape[1]] = answer[rows]
        return nodes[:, : int((nodes >= 0).sum(axis=1).max())]
