"""What a decode loop is made of, and how much room its steps take."""

from collections.abc import Callable
from typing import NamedTuple

from ..controller.policies.base import ShapePolicy
from ..controller.policies.learned_shapes import LearnedShapes
from .drafters.base import Drafter
from .engines.base import CHUNK, FEW, Session
from .stats import StepRecord
from .target import Target
from .verification.base import Verifier

Observer = Callable[[StepRecord], None]


class Loop(NamedTuple):
    """The parts of a decode loop. Without drafter and selector it is plain decoding: a tree of the root alone."""

    target: Target
    verifier: Verifier
    drafter: Drafter | None
    selector: ShapePolicy | None
    observer: Observer | None

    @property
    def reads_agreement(self) -> bool:
        """Whether steps begin with what both models said at the last position, which the drafter then can tell."""
        return isinstance(self.selector, LearnedShapes)

    @property
    def tree_rows(self) -> int:
        """Of the largest tree that is verified, the root included."""
        return 1 + (0 if self.selector is None else self.selector.limits.budget)

    @property
    def num_rows(self) -> int:
        """Cache rows that a step of one request takes at most: in the target those of the largest tree behind a chunk
        of a prompt, its own or a neighbour's to which it is padded; in the drafter those of all levels, and in a stack
        what is read with them."""
        of_target = CHUNK + self.tree_rows
        if self.drafter is None or self.selector is None:
            return of_target
        limits, ahead = self.selector.limits, self.drafter.most_ahead
        return max(of_target, 1 + (FEW if ahead else 0) + (limits.frontier + ahead) * limits.max_depth)

    def open(self) -> list[Session]:
        """Empty all slots; the sessions of all models."""
        return [self.target.open(), *(() if self.drafter is None else self.drafter.open())]

    def prepare(self, max_batch: int) -> None:
        """Do ahead what the first steps of up to `max_batch` requests would do; a batch before has ended."""
        self.open()  # until then a model has its own attention, and does not know what hidden states to keep
        self.target.model.prepare(max_batch, self.tree_rows)
        if self.drafter is not None and self.selector is not None:
            self.drafter.prepare(max_batch, self.selector.limits.frontier)
