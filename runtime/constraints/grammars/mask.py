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

from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ..base import Growing
from .compiled import CompiledGrammar, mask_of

if TYPE_CHECKING:
    from llguidance import LLMatcher

Path = tuple[int, ...]


class GrammarMask:
    """A `RowProcessor`. Rows behind a dead end, which `reach` says, are left alone; so are those behind a path that the
    grammar does not take, which no text comes to.

    `of_paths` is the same grammar compiled once more, for the paths of trees: what they need of a lexer is not taken
    from the text's, which comes to its limit where it does under plain decoding.
    """

    def __init__(self, grammar: CompiledGrammar, of_paths: CompiledGrammar, end_tokens: Collection[int]):
        self._grammar = grammar
        self._of_paths = of_paths
        self._end_tokens = frozenset(end_tokens)
        self._text = Growing()
        self._at_end = grammar.root  # of the text
        self._matchers: dict[Path, LLMatcher | None] = {}  # behind the text and a path; None: not taken
        self._masks: dict[Path, bytes | None] = {}  # see `mask_of`; None behind what is not taken, too

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
        """See `Reach`. An end token is taken, and the text ends with it.

        The lexer of the text is asked at each token that is taken, as it is under plain decoding.
        """
        self._follow(text)
        matcher = self._at_end.deep_copy()
        for length, token in enumerate(path, start=1):
            if token in self._end_tokens:
                return length
            if self._mask((*path[:length],)) is None or not _takes(matcher, [token]) or mask_of(matcher) is None:
                return length - 1
        return len(path)

    def _follow(self, text: Sequence[int]) -> None:
        """Move to the end of the text; InputError where it can go no further."""
        news = self._text.look(text)
        if not (news.starts_anew or news.tokens):
            return
        if news.starts_anew:
            self._at_end, before = self._grammar.root.deep_copy(), self._of_paths.root.deep_copy()
        else:
            before = self._matchers[()]
        is_taken = _takes(self._at_end, news.tokens)
        mask = mask_of(self._at_end)  # where a token is not taken, it is this that says why
        if mask is None or not is_taken:
            self._text = Growing()
            raise self._grammar.dead_end(self._at_end)
        self._matchers = {(): before if before is not None and _takes(before, news.tokens) else None}
        self._masks = {(): mask}

    def _matcher(self, path: Path) -> "LLMatcher | None":
        if path in self._matchers:
            return self._matchers[path]
        above, token = self._matcher(path[:-1]), path[-1]
        matcher = None if above is None or token in self._end_tokens else above.deep_copy()
        self._matchers[path] = matcher if matcher is not None and _takes(matcher, [token]) else None
        return self._matchers[path]

    def _mask(self, path: Path) -> bytes | None:
        if path not in self._masks:
            matcher = self._matcher(path)
            self._masks[path] = None if matcher is None else mask_of(matcher)
        return self._masks[path]


def _takes(matcher: "LLMatcher", tokens: Sequence[int]) -> bool:
    return matcher.try_consume_tokens([*tokens]) == len(tokens)
