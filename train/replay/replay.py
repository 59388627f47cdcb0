"""Replay: what a policy would have done on recorded text, exactly, without a language model.

Under the walk a step's accepted path depends on the recorded text alone: the target takes a drafted node exactly if
the text continues with it. Running the policy of the decode loop over the envelopes therefore gives its steps, nodes
and tokens; a latency table prices them. Nothing is sampled.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np

from ...controller.context import StepContext
from ...controller.learned.recalibration import Calibration
from ...controller.policies.base import ShapePolicy, Step
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.limits import TreeLimits
from ...controller.trees.tree import Array, DraftTree
from .recording import RecordedDrafter, Recording


@dataclass
class ReplayStats:
    """Sums over the steps of a replay."""

    num_steps: int = 0
    num_tokens: int = 0
    num_levels: int = 0
    num_drafted: int = 0
    num_kept: int = 0
    num_accepted: int = 0
    num_outside: int = 0  # nodes a policy asked to expand that the envelope does not hold
    priced_ms: float = 0.0
    plain_ms: float = 0.0  # of the same tokens decoded one by one

    @property
    def speed_up(self) -> float:
        """Over plain decoding, both priced by the table."""
        return self.plain_ms / self.priced_ms if self.priced_ms else 1.0

    @property
    def tokens_per_ms(self) -> float:
        return self.num_tokens / self.priced_ms if self.priced_ms else 0.0

    @property
    def block_efficiency(self) -> float:
        return 1.0 + self.num_accepted / self.num_steps if self.num_steps else 1.0

    @property
    def levels_per_step(self) -> float:
        return self.num_levels / max(1, self.num_steps)

    @property
    def nodes_per_step(self) -> float:
        return self.num_kept / max(1, self.num_steps)

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        whole = cls()
        for part in parts:
            for column in fields(cls):
                setattr(whole, column.name, getattr(whole, column.name) + getattr(part, column.name))
        return whole


class StepTrace(NamedTuple):
    """One replayed step, as an observer receives it."""

    context: StepContext
    drafted: DraftTree
    kept: Array  # [1, K] nodes of the drafted tree, root first
    widths: list[int]  # of the levels
    num_accepted: int
    num_tokens: int


def replay(
    recordings: Sequence[Recording],
    policy: ShapePolicy,
    table: LatencyTable,
    observer: Callable[[StepTrace], None] | None = None,
) -> list[ReplayStats]:
    """Run `policy` over each recording in turn; one entry per text. The policy keeps its state from text to text."""
    return [_replay_text(recording, policy, table, observer) for recording in recordings]


def _replay_text(
    recording: Recording, policy: ShapePolicy, table: LatencyTable, observer: Callable[[StepTrace], None] | None
) -> ReplayStats:
    stats, calibration = ReplayStats(), Calibration(1)
    tokens, root = recording.tokens, recording.prompt_length - 1
    while root < len(tokens) - 1:
        context = StepContext(
            positions=np.array([root]),
            remaining=np.array([len(tokens) - 1 - root]),
            temperatures=np.array([recording.temperature], dtype=np.float32),
            top_ps=np.array([recording.top_p], dtype=np.float32),
            history=recording.history[root - recording.prompt_length + 1][None],
            calibration=calibration,
        )
        step = policy.begin(context)
        tree, widths, outside = _draft(recording, root, step, policy.limits)
        nodes = step.keep(tree)
        kept = tree.subtree(nodes)
        path = walk_text(kept, tokens[root + 1 :])
        accepted = len(path)
        step.record(kept, widths, np.array([path], dtype=np.int64))
        num_tokens = min(accepted + 1, len(tokens) - 1 - root)
        stats.num_steps += 1
        stats.num_tokens += num_tokens
        stats.num_levels += len(widths)
        stats.num_drafted += int(tree.num_nodes[0]) - 1
        stats.num_kept += int(kept.num_nodes[0]) - 1
        stats.num_accepted += accepted
        stats.num_outside += outside
        stats.priced_ms += table.step_ms(widths, int(kept.num_nodes[0]) - 1, batch=1, context=root)
        stats.plain_ms += num_tokens * table.step_ms([], 0, batch=1, context=root)
        if observer is not None:
            observer(StepTrace(context, tree, nodes, widths, accepted, num_tokens))
        root += num_tokens
    return stats


def _draft(recording: Recording, root: int, step: Step, limits: TreeLimits) -> tuple[DraftTree, list[int], int]:
    """The tree the policy grows, the widths of its levels, and how many nodes outside the envelope it asked for."""
    tree = DraftTree.from_roots(recording.tokens[root : root + 1])
    envelope = recording.envelopes.get(root)
    widths: list[int] = []
    if envelope is None:
        return tree, widths, 0
    drafter = RecordedDrafter(envelope)
    while (frontier := step.frontier(tree)).shape[1]:
        widths.append(frontier.shape[1])
        num_nodes = tree.num_nodes[0]
        tree = drafter.expand(tree, frontier, limits)
        if tree.num_nodes[0] == num_nodes:  # all outside the envelope: the policy would ask for the same again
            break
    return tree, widths, drafter.num_outside


def walk_text(tree: DraftTree, following: Array) -> list[int]:
    """The nodes of the one tree that are on the text, whose tokens after the root are `following` [m]."""
    node, path = 0, []
    parents, tokens, count = tree.parents[0], tree.tokens[0], int(tree.num_nodes[0])
    while len(path) < len(following):
        matches = np.nonzero((parents[:count] == node) & (tokens[:count] == following[len(path)]))[0]
        if len(matches) == 0:
            break
        node = int(matches[0])
        path.append(node)
    return path
