"""The scores and logits that a call returns of its tokens."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from transformers import GenerationConfig

from ....controller.trees.tree import Array
from .processors import Warping


class RowScores:
    """A `RowProcessor` that keeps the target's rows of the tokens that were generated, and passes on what is left to
    processors `how` these are chosen."""

    def __init__(self, how: Warping, *, keeps_scores: bool):
        self.logits: list[Tensor] = []  # [V] each
        self.scores: list[Tensor] | None = [] if keeps_scores else None  # the same as all processors leave them
        self._how = how
        self._rows: dict[tuple[int, ...], Tensor] = {}  # of this step's nodes, by what is generated up to them

    @classmethod
    def of(cls, how: Warping, config: GenerationConfig) -> Self | None:
        """None where neither scores nor logits are to be returned."""
        is_asked = config.return_dict_in_generate and (config.output_scores or config.output_logits)
        return cls(how, keeps_scores=bool(config.output_scores)) if is_asked else None

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        if of_target:
            known = [(*text, *(token for token in path if token >= 0)) for path in paths.tolist()]
            self._rows |= dict(zip(known, logits.clone(), strict=True))
        before = self._how.before
        return logits if before is None else before(text, paths, logits, of_target=of_target)

    def add(self, token_ids: Sequence[int]) -> None:
        """Keep the row that the last of `token_ids`, all that are generated so far, was drawn from."""
        before = token_ids[:-1]
        row = self._rows[tuple(before)][None].float().clone()
        generated = torch.tensor([before], dtype=torch.int64, device=row.device)
        self.logits.append(row[0])
        if self.scores is not None:
            self.scores.append(self._how.whole.scores(generated, row.clone())[0])

    def end_step(self) -> None:
        self._rows.clear()
