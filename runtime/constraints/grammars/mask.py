"""A grammar bans all tokens but those that go on with a text as it asks; end tokens are allowed where it may end.

A matcher stands at the end of the committed text, and one behind each path of a step's trees, a copy of its parent's
that has taken one token more: nothing is parsed twice. (A matcher that goes back, by llguidance's `rollback`, now and
then allows what it should not.) The masks of a step are kept: the target asks for most of those that the drafter did.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import Growing

if TYPE_CHECKING:
    from llguidance import LLMatcher

Path = tuple[int, ...]


class GrammarMask:
    """A `RowProcessor`. Behind a path that the grammar does not take, which no text comes to, rows are left alone."""

    def __init__(self, compiled: "LLMatcher", end_tokens: Collection[int]):
        self._compiled = compiled  # at the beginning of a text, from where it is never moved
        self._end_tokens = frozenset(end_tokens)
        self._text = Growing()
        self._matchers: dict[Path, LLMatcher | None] = {}  # behind the text and a path; None: not taken
        self._masks: dict[Path, bytes | None] = {}  # bits of the allowed tokens, the lowest first; None: left alone

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        self._follow(text)
        masks = [self._mask(tuple(token for token in path if token >= 0)) for path in paths.tolist()]
        masked = np.array([row for row, mask in enumerate(masks) if mask is not None], dtype=np.int64)
        if not len(masked):
            return logits
        packed = np.stack([np.frombuffer(mask, dtype=np.uint8) for mask in masks if mask is not None])
        # A model may have more rows than its tokenizer has tokens, or fewer.
        banned = np.unpackbits(packed, axis=1, count=logits.shape[1], bitorder="little") == 0
        rows = to_device(masked, logits.device)
        logits[rows] = logits[rows].masked_fill(to_device(banned, logits.device), -torch.inf)
        return logits

    def _follow(self, text: Sequence[int]) -> None:
        """Move the matcher of the text to its end; InputError where the grammar does not take it."""
        news = self._text.look(text)
        matcher = None if news.starts_anew else self._matchers[()]
        if matcher is None:
            matcher = self._compiled.deep_copy()
        elif not news.tokens:
            return
        self._matchers, self._masks = {(): matcher}, {}
        if matcher.try_consume_tokens([*news.tokens]) < len(news.tokens):
            raise _stuck(matcher)

    def _matcher(self, path: Path) -> "LLMatcher | None":
        if path in self._matchers:
            return self._matchers[path]
        above, token = self._matcher(path[:-1]), path[-1]
        matcher = None if above is None or token in self._end_tokens else above.deep_copy()
        if matcher is not None and not matcher.try_consume_tokens([token]):
            matcher = None
        self._matchers[path] = matcher
        return matcher

    def _mask(self, path: Path) -> bytes | None:
        """InputError where the text itself can go no further."""
        if path not in self._masks:
            matcher = self._matcher(path)
            mask = None if matcher is None else matcher.compute_bitmask()
            if matcher is not None and mask is not None and matcher.is_error():
                if not path:
                    raise _stuck(matcher)
                # A dead end, which no text may come to. One that does takes some token, and fails at its next step.
                mask = self._all_but_ends(len(mask))
            self._masks[path] = mask
        return self._masks[path]

    def _all_but_ends(self, num_bytes: int) -> bytes:
        allowed = np.ones(8 * num_bytes, dtype=np.uint8)
        allowed[[*self._end_tokens]] = 0
        return np.packbits(allowed, bitorder="little").tobytes()


def _stuck(matcher: "LLMatcher") -> InputError:
    reason = matcher.get_error().split("\n")[0] or "it does not take its last token"
    return InputError(f"the text can go no further under its grammar ({reason}); correct the grammar")
