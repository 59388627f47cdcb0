"""How the two models agree at the last verified position of each text, from their rows.

The numbers are those of `controller.learned.agreement`, for labels and for the loop alike.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..controller.learned.agreement import MOST_LOG_RATIO, UNVERIFIED
from ..controller.trees.tree import Array
from .sampling import TokenSampler
from .verification.base import DraftRows, Verdict


def last_numbers(target_log_probs: Tensor, draft_log_probs: Tensor) -> Tensor:
    """[n, 6] of verified positions, from both models' warped rows [n, V]."""
    target_probs, draft_probs = target_log_probs.exp(), draft_log_probs.exp()
    ratios = (target_log_probs - draft_log_probs).nan_to_num(0.0).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return torch.stack(
        (
            torch.special.entr(draft_probs).sum(-1),
            torch.minimum(target_probs, draft_probs).sum(-1),
            (target_probs * ratios).sum(-1),
            -(draft_probs * ratios).sum(-1),
            _lead(target_probs),
            _lead(draft_probs),
        ),
        dim=-1,
    )


def root_numbers(draft_log_probs: Tensor) -> Tensor:
    """[n, 3] of roots, from the drafter's warped rows [n, V]."""
    probs = draft_log_probs.exp()
    return torch.stack((torch.special.entr(probs).sum(-1), probs.amax(-1), _lead(probs)), dim=-1)


class RootReader(Protocol):
    """A drafter that reads the roots of a step ahead of its first draws."""

    def read_roots(self, sampler: TokenSampler) -> tuple[Tensor, Tensor]:
        """[B, V] log-probabilities after each text's token before the root, where it is read only now, and after its
        root."""
        ...


class TextAgreement:
    """Per text the row of each model at the last verified position: None before there is one, and, of the drafter,
    where it has not read the position yet."""

    def __init__(self) -> None:
        self._target: list[Tensor | None] = []
        self._draft: list[Tensor | None] = []
        self._roots: Tensor | None = None  # [B, V] the drafter's rows at the roots of this step

    def join(self) -> None:
        """One more text, behind the others."""
        self._target.append(None)
        self._draft.append(None)

    def keep(self, slots: Sequence[int]) -> None:
        """Slot i becomes what `slots[i]` was; the others leave."""
        self._target = [self._target[slot] for slot in slots]
        self._draft = [self._draft[slot] for slot in slots]

    def read(self, drafter: RootReader, sampler: TokenSampler) -> Array:
        """[B, 9] of the step that begins."""
        before, self._roots = drafter.read_roots(sampler)
        rows = np.tile(UNVERIFIED, (len(before), 1))
        for slot, target in enumerate(self._target):
            if target is not None:
                draft = self._draft[slot]
                draft = before[slot] if draft is None else draft
                rows[slot] = last_numbers(target[None], draft[None])[0].cpu().numpy()
        return np.concatenate((rows, root_numbers(self._roots).cpu().numpy()), axis=1).astype(np.float32)

    def record(self, rows: Tensor, draft_rows: DraftRows, verdict: Verdict, sampler: TokenSampler) -> None:
        """The step's last accepted node is the last verified position, by the target's logits `rows` [B, N, V]."""
        assert self._roots is not None
        counts = verdict.accepted_lengths
        for slot, count in enumerate(counts.tolist()):
            last = int(verdict.path[slot, count - 1]) if count else 0
            self._target[slot] = sampler.probs(rows[slot, last], slot).log()
            self._draft[slot] = draft_rows[slot].get(last) if count else self._roots[slot]


def _lead(probs: Tensor) -> Tensor:
    best = probs.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]
