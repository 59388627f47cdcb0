"""The growing texts of a call, and where they end, by its stopping criteria."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import stopping_criteria

from ....controller.errors import InputError
from ...log_probs import TextLogProbs
from .scores import RowScores

# What transformers itself asks of each row alone.
BY_ROW = frozenset(
    getattr(stopping_criteria, name)
    for name in ("MaxLengthCriteria", "MaxTimeCriteria", "StopStringCriteria", "EosTokenCriteria")
)


def end_tokens(criteria: Sequence[Any]) -> frozenset[int]:
    """The tokens that end a text."""
    ends = (each.eos_token_id.tolist() for each in criteria if type(each) is stopping_criteria.EosTokenCriteria)
    return frozenset(token for of_one in ends for token in of_one)


def require_by_row(criteria: Sequence[Any], num_rows: int, stateless: Collection[Any]) -> None:
    """InputError for a criterion of which it is not known that it asks about each row of several alone."""
    for each in criteria:
        if num_rows > 1 and type(each) not in BY_ROW and each not in stateless and type(each) not in stateless:
            name = getattr(each, "__name__", type(each).__name__)
            raise InputError(
                f"the stopping criterion {name} may look at all rows of a batch, which grow at different speeds here; "
                "if it is a function of each row alone, say so by generate_with(stateless=[...]), or give one row"
            )


def longest(criteria: Sequence[Any], config: GenerationConfig) -> int:
    """Tokens of the longest text, its prompt included."""
    ends = [each.max_length for each in criteria if type(each) is stopping_criteria.MaxLengthCriteria]
    return min(ends, default=config.max_length or 0)


class Rows:
    """The texts of a call, and what `generate` does with those that have ended before the others.

    With end tokens they are filled up with padding. Without, and ended by something else, they run on until the last
    has ended.
    """

    def __init__(self, *, run_on: bool):
        self.texts: list[RowText] = []
        self._run_on = run_on

    @classmethod
    def of(cls, count: int, criteria: Sequence[Any], config: Any) -> Self:
        """Of so many texts; InputError where they may end at different lengths, and nothing fills them up."""
        ends = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
        if count > 1 and ends and config._pad_token_tensor is None:
            raise InputError("texts may end at different lengths, and no pad_token_id is there to fill them; give one")
        return cls(run_on=count > 1 and not ends)

    @property
    def length(self) -> int | None:
        """Of the longest text, once all have ended."""
        ends = [text.num_until_end for text in self.texts]
        return max(end for end in ends if end is not None) if None not in ends else None

    def most_tokens(self, text: "RowText") -> int:
        """How many tokens a text takes, as far as it is known."""
        end = self.length if self._run_on else text.num_until_end
        return text.max_tokens if end is None else end


class RowText:
    """A `TokenSink` (see `sink`) of one row. Criteria are asked about each prefix of the text, as `generate` asks."""

    def __init__(
        self,
        rows: Rows,
        prompt: Tensor,  # [L] int64, padding included
        max_tokens: int,
        criteria: Sequence[Any],
        scores: RowScores | None,
    ):
        rows.texts.append(self)
        self.token_ids: list[int] = []
        self.error: Exception | None = None
        self.log_probs: TextLogProbs | None = None
        self.num_until_end: int | None = None
        self.max_tokens = max_tokens
        self.scores = scores
        self._rows = rows
        self._prompt = prompt
        self._ends = end_tokens(criteria)
        known = (stopping_criteria.MaxLengthCriteria, stopping_criteria.EosTokenCriteria)
        self._criteria: list[Callable[..., Any]] = [each for each in criteria if type(each) not in known]

    @property
    def remaining(self) -> int:
        """Tokens that it may still take; 0 once it has ended or failed."""
        return 0 if self.error else max(0, self._rows.most_tokens(self) - len(self.token_ids))

    def append(self, tokens: Sequence[int]) -> int:
        """Take tokens up to the end of the text; how many were taken. An error of a criterion is raised."""
        num_before = len(self.token_ids)
        for token in tokens:
            if not self.remaining:
                break
            self.token_ids.append(token)
            if self.scores is not None:
                self.scores.add(self.token_ids)
            if self.num_until_end is None and self._ends_here():
                self.num_until_end = len(self.token_ids)
        if self.scores is not None:
            self.scores.end_step()
        return len(self.token_ids) - num_before

    def fail(self, error: Exception) -> None:
        """End the text with an error."""
        self.error = error
        if self.num_until_end is None:
            self.num_until_end = len(self.token_ids)

    def _ends_here(self) -> bool:
        is_end = self.token_ids[-1] in self._ends or len(self.token_ids) >= self.max_tokens
        if not self._criteria:
            return is_end
        with torch.inference_mode(False), torch.no_grad():  # what they keep of their arguments may be used elsewhere
            text = torch.cat((self._prompt, self._prompt.new_tensor(self.token_ids)))[None]
            kept = None if self.scores is None else self.scores.scores
            scores = None if kept is None else tuple(row[None] for row in kept)
            answers = [each(text, scores) for each in self._criteria]  # all are asked about every token
        return is_end or any(bool(torch.as_tensor(answer).any()) for answer in answers)
