"""What both models say at the tokens of a recorded text, the drafter with a memory of its errors or without."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ...controller.memory import MemoryConfig
from ...controller.trees.tree import Array
from ...runtime.drafters.errors import Errors, KnownErrors, Rows, scale_of, scaled_probs
from ...runtime.engines.base import CHUNK, CachedModel, append_text
from ...runtime.machine.transfer import to_device
from ...runtime.sampling import TokenSampler
from ..text import sampling_of
from ..trace.schema import TextRow

# Roots whose remembered errors are gathered together.
ROOTS_AT_ONCE = 64


def read_rows(model: CachedModel, tokens: Array, first: int) -> Rows:
    """Of one text's tokens [n], from the row that chose token `first + 1` on; its states only where the model keeps
    them."""
    model.open(1, len(tokens) + CHUNK)
    parts: list[Rows] = []

    def note(slot: int, logits: Tensor, states: Tensor | None) -> None:
        parts.append(Rows(logits.clone(), logits[:, :0] if states is None else states.clone()))

    append_text(model, 0, tokens[:-1], note, len(tokens) - 1 - first)
    return Rows(*map(torch.cat, zip(*parts, strict=True)))


class TextMemory(NamedTuple):
    """The drafter's errors at the tokens of a text, the last of its prompt that count and all that were generated."""

    config: MemoryConfig
    errors: Errors  # [n, ...]
    start: int  # the first one's index in the text

    @classmethod
    def of(cls, target: CachedModel, drafter: CachedModel, text: TextRow, config: MemoryConfig) -> Self:
        keep_states(drafter, True)
        tokens, start = np.array(text.tokens, dtype=np.int64), max(0, text.prompt_length - 1 - config.window)
        theirs, ours = (read_rows(model, tokens, start) for model in (target, drafter))
        scale = scale_of(sampling_of(text))
        target_probs, draft_probs = (
            scaled_probs(rows.logits, scale, target.vocabulary_size) for rows in (theirs, ours)
        )
        return cls(config, Errors.of(ours.states, target_probs, draft_probs, config.entries), start)

    def before(self, roots: Array) -> KnownErrors:
        """What trees at `roots` [R] of the text may know: the errors at the last `window` tokens before each."""
        size = min(self.config.window, int(roots.max()) - self.start)
        places = roots[:, None] - self.start + np.arange(-size, 0)
        there = to_device(np.maximum(places, 0), self.errors.states.device)
        unused = to_device(places < 0, there.device) if (places < 0).any() else None
        return KnownErrors.of(self.config, Errors(*(column[there] for column in self.errors)), unused)

    def corrected(self, rows: Rows, roots: Array) -> Tensor:
        """[R, V] for the drafter's `rows` [R, ...] at `roots` [R], each by what is known there."""
        parts = [
            self.before(roots[some]).corrected(rows.logits[some, None], rows.states[some, None])[:, 0]
            for some in (slice(start, start + ROOTS_AT_ONCE) for start in range(0, len(roots), ROOTS_AT_ONCE))
        ]
        return torch.cat(parts)


def keep_states(drafter: CachedModel, wanted: bool) -> None:
    """Have the drafter's next forwards keep the hidden states that its logits come from, or none."""
    assert not wanted or drafter.last_layer is not None, "the engine gives no hidden states"
    drafter.hidden_layers = (drafter.last_layer,) if wanted and drafter.last_layer is not None else ()


def warped_rows(
    target: CachedModel, drafter: CachedModel, text: TextRow, memory: TextMemory | None = None
) -> tuple[Tensor, Tensor]:
    """[n, V] scores of both models before each of a text's n generated tokens, warped as the text was.

    With a `memory` the drafter's are those of a tree that is rooted at the token before.
    """
    sampler = TokenSampler([sampling_of(text)], target.vocabulary_size, target.device)
    tokens, first = np.array(text.tokens, dtype=np.int64), text.prompt_length - 1
    keep_states(drafter, memory is not None)
    theirs, ours = (read_rows(model, tokens, first) for model in (target, drafter))
    draft_logits = ours.logits if memory is None else memory.corrected(ours, np.arange(first, len(tokens) - 1))
    target_scores, draft_scores = (sampler.warp(logits[None])[0] for logits in (theirs.logits, draft_logits))
    return target_scores, draft_scores
