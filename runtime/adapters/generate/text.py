"""The growing text of one row: where it ends, by the stopping criteria of the call, and the scores of its tokens."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.generation import stopping_criteria

from ....controller.errors import InputError
from .processors import ProcessorList

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


class RowScores:
    """A `RowProcessor` that keeps the target's rows of the tokens that were generated, and passes on what `before`
    makes of them."""

    def __init__(self, whole: ProcessorList, before: ProcessorList | None):
        self.logits: list[Tensor] = []  # [V] each
        self.scores: list[Tensor] = []  # the same as all processors leave them
        self._whole = whole
        self._before = before
        self._rows: dict[tuple[int, ...], Tensor] = {}  # of this step's nodes, by what is generated up to them

    def __call__(self, generated: Tensor, logits: Tensor, *, of_target: bool) -> Tensor:
        if of_target:
            self._rows |= {tuple(text): row for text, row in zip(generated.tolist(), logits, strict=True)}
        return logits if self._before is None else self._before(generated, logits, of_target=of_target)

    def add(self, token_ids: Sequence[int]) -> None:
        """Keep the row that the last of `token_ids`, all that are generated so far, was drawn from."""
        before = token_ids[:-1]
        row = self._rows[tuple(before)][None].float().clone()
        generated = torch.tensor([before], dtype=torch.int64, device=row.device)
        self.logits.append(row[0])
        self.scores.append(self._whole(generated, row.clone())[0])

    def end_step(self) -> None:
        self._rows.clear()


class Rows:
    """The texts of a call, and what `generate` does with those that have ended before the others.

    With end tokens they are filled up with padding. Without, and ended by something else, they run on until the last
    has ended.
    """

    def __init__(self, *, run_on: bool):
        self.texts: list[RowText] = []
        self._run_on = run_on

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
            scores = None if self.scores is None else tuple(row[None] for row in self.scores.scores)
            answers = [each(text, scores) for each in self._criteria]  # all are asked about every token
        return is_end or any(bool(torch.as_tensor(answer).any()) for answer in answers)
