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

from ....controller.errors import SettingError
from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import Growing
from .source import GrammarKind

if TYPE_CHECKING:
    from llguidance import LLMatcher

Path = tuple[int, ...]


class GrammarMask:
    """A `RowProcessor`. Rows behind a dead end, which `reach` says, are left alone; so are those behind a path that the
    grammar does not take, which no text comes to."""

    def __init__(self, compiled: "LLMatcher", end_tokens: Collection[int], kind: GrammarKind):
        self._compiled = compiled  # at the beginning of a text, from where it is never moved
        self._kind = kind
        self._end_tokens = frozenset(end_tokens)
        self._text = Growing()
        self._matchers: dict[Path, LLMatcher | None] = {}  # behind the text and a path; None: not taken
        self._masks: dict[Path, bytes | None] = {}  # bits of the allowed tokens, the lowest first; None: no token

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

    def reach(self, text: Sequence[int], path: Sequence[int]) -> int:
        """See `Reach`. An end token is taken, and the text ends with it; InputError where it can go no further."""
        self._follow(text)
        self._mask(())
        for length, token in enumerate(path, start=1):
            if token in self._end_tokens:
                return length
            if self._mask((*path[:length],)) is None:
                return length - 1
        return len(path)

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
            raise self._stuck(matcher)

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
            if matcher is not None and matcher.is_error():
                if not path:
                    raise self._stuck(matcher)
                mask = None
            self._masks[path] = mask
        return self._masks[path]

    def _stuck(self, matcher: "LLMatcher") -> SettingError:
        reason = matcher.get_error().split("\n")[0]
        reason = reason if " " in reason else "nothing can follow the text"  # a code says less
        return SettingError(self._kind.value, f"has come to a dead end ({reason}); correct it")
