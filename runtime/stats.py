"""Statistics of decode steps: counts, and rates from the counts."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Self

from ..controller.context import StepContext
from ..controller.trees.tree import Array, DraftTree
from .verification.base import Verdict


@dataclass(frozen=True)
class StepRecord:
    """One decode step of a batch, as the observer sees it. Times in milliseconds."""

    context: StepContext
    drafted: DraftTree  # the over-grown candidates
    kept: DraftTree  # what the target verified
    verdict: Verdict
    level_widths: list[int]  # nodes expanded by each drafter level, of the widest tree; in a stack nodes read
    num_emitted: Array  # [B] tokens each text really took, fewer than the block where the text ended
    nodes: Array  # [B, K] the drafted nodes that were kept, ascending, -1 behind each tree's last
    log_values: Array | None  # [B, N] of the drafted, see `Step.log_values`
    draft_ms: float
    controller_ms: float
    target_ms: float
    verify_ms: float
    commit_ms: float
    read_ms: float = 0.0  # prompts of texts that join, read before the step and before steps that only read
    keep_ms: float = 0.0  # of controller_ms, what came behind the last level: to draft no further, and what to keep

    def row(self, index: int) -> Self:
        """The step of one request alone; times and level widths stay those of the whole batch."""
        here, drafted, kept = slice(index, index + 1), self.drafted.row(index), self.kept.row(index)
        return replace(
            self,
            context=self.context.row(index),
            drafted=drafted,
            kept=kept,
            verdict=Verdict(self.verdict.path[here], self.verdict.next_tokens[here]),
            num_emitted=self.num_emitted[here],
            nodes=self.nodes[here, : kept.tokens.shape[1]],
            log_values=None if self.log_values is None else self.log_values[here, : drafted.tokens.shape[1]],
        )

    @property
    def drafting_ms(self) -> float:
        """The drafter's levels, each with the decision to draft it: what a latency table prices as levels."""
        return self.draft_ms + self.controller_ms - self.keep_ms

    @property
    def verifying_ms(self) -> float:
        """All the rest of the step: what a latency table prices as a target step."""
        return self.keep_ms + self.target_ms + self.verify_ms + self.commit_ms

    @property
    def total_ms(self) -> float:
        return self.read_ms + self.draft_ms + self.controller_ms + self.target_ms + self.verify_ms + self.commit_ms


class Clock:
    """Milliseconds since the last charge, booked under every name given."""

    def __init__(self) -> None:
        phases = ("read_ms", "draft_ms", "controller_ms", "target_ms", "verify_ms", "commit_ms", "keep_ms")
        self.spent: dict[str, float] = dict.fromkeys(phases, 0.0)

    def start(self) -> None:
        self._last = perf_counter()

    def charge(self, *names: str) -> None:
        now = perf_counter()
        for name in names:
            self.spent[f"{name}_ms"] += (now - self._last) * 1e3
        self._last = now


@dataclass
class DecodeStats:
    """Sums over steps; a step of one request counts once in a batch of any size."""

    num_steps: int = 0
    num_tokens: int = 0
    num_drafting: int = 0  # steps that drafted anything
    num_levels: int = 0  # drafter levels of all steps
    num_drafted: int = 0
    num_kept: int = 0
    num_accepted: int = 0
    total_ms: float = 0.0
    controller_ms: float = 0.0
    step_ms: list[float] = field(default_factory=list)

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """The stats of several runs as one."""
        whole = cls()
        for part in parts:
            for name in (column.name for column in fields(cls)):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
        return whole

    def add(self, record: StepRecord) -> None:
        self.num_steps += len(record.num_emitted)
        self.num_tokens += int(record.num_emitted.sum())
        self.num_drafting += int((record.drafted.num_nodes > 1).sum())
        self.num_levels += len(record.level_widths) * len(record.num_emitted)
        self.num_drafted += int((record.drafted.num_nodes - 1).sum())
        self.num_kept += int((record.kept.num_nodes - 1).sum())
        self.num_accepted += int(record.verdict.accepted_lengths.sum())
        self.total_ms += record.total_ms
        self.controller_ms += record.controller_ms
        self.step_ms.append(record.total_ms)

    @property
    def block_efficiency(self) -> float:
        """Tokens committed per step: accepted length + 1."""
        return 1.0 + self.num_accepted / self.num_steps if self.num_steps else 0.0

    @property
    def nodes_per_step(self) -> float:
        """Drafted nodes verified per step, root left out."""
        return self.num_kept / self.num_steps if self.num_steps else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the drafted nodes that were verified."""
        return self.num_accepted / self.num_kept if self.num_kept else 0.0

    @property
    def controller_share(self) -> float:
        return self.controller_ms / self.total_ms if self.total_ms else 0.0
