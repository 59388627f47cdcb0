"""What speculation did for one text, in the answer itself, in the shape of vLLM's `metrics.speculative_decoding`."""

from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from ..stats import StepRecord


class SpeculativeDecoding(BaseModel):
    """Of the steps that drafted anything."""

    mean_acceptance_length: float  # tokens per step, the target's own included
    draft_acceptance_rate: float  # of the verified nodes
    acceptance_histogram: list[int]  # steps that accepted 0, 1, 2, ... nodes
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int  # nodes that the target verified
    num_spec_tokens: int  # the depth of the deepest tree


class TextMetrics(BaseModel):
    speculative_decoding: SpeculativeDecoding


class Measured(BaseModel):
    """An answer that may say what speculation did for it."""

    metrics: Annotated[TextMetrics | None, Field(exclude_if=lambda metrics: metrics is None)] = None


class SpeculationCount:
    """Observes the steps of one text."""

    def __init__(self) -> None:
        self._accepted: list[int] = []  # by step
        self._num_nodes = self._depth = 0

    def __call__(self, record: StepRecord, row: int) -> None:
        if record.kept.num_nodes[row] > 1:
            self._accepted.append(int(record.verdict.accepted_lengths[row]))
            self._num_nodes += int(record.kept.num_nodes[row]) - 1
            self._depth = max(self._depth, int(record.kept.depths[row].max()))

    @property
    def metrics(self) -> TextMetrics:
        num_steps, num_accepted = len(self._accepted), sum(self._accepted)
        return TextMetrics(
            speculative_decoding=SpeculativeDecoding(
                mean_acceptance_length=1.0 + num_accepted / max(1, num_steps),
                draft_acceptance_rate=num_accepted / max(1, self._num_nodes),
                acceptance_histogram=np.bincount(self._accepted, minlength=self._depth + 1).tolist(),
                num_spec_steps=num_steps,
                num_accepted_draft_tokens=num_accepted,
                num_draft_tokens=self._num_nodes,
                num_spec_tokens=self._depth,
            )
        )
