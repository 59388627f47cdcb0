"""A grammar bans all tokens but those that go on with a text as it asks; end tokens are allowed where it may end.

A matcher stands at the end of the committed text. From there it goes down each path of a tree and back, so nothing is
parsed twice. The masks of a step are kept: the target asks for those of most nodes that the drafter asked for.
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
        self._compiled = compiled  # at the beginning, and never moved from there
        self._end_tokens = frozenset(end_tokens)
        self._text = Growing()
        self._matcher = compiled
        self._at: list[int] = []  # the path from the text to where the matcher is
        self._masks: dict[Path, bytes | None] = {}  # bits of the allowed tokens, the lowest first; None: left alone

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        self._follow(text)
        keys = [tuple(token for token in path if token >= 0) for path in paths.tolist()]
        for key in keys:
            if key not in self._masks:
                self._masks[key] = self._mask_behind(key, text)
        masks = [self._masks[key] for key in keys]
        masked = np.array([row for row, mask in enumerate(masks) if mask is not None], dtype=np.int64)
        if not len(masked):
            return logits
        packed = np.stack([np.frombuffer(mask, dtype=np.uint8) for mask in masks if mask is not None])
        # Rows of a model may be more than its tokenizer has tokens, or fewer.
        banned = np.unpackbits(packed, axis=1, count=logits.shape[1], bitorder="little") == 0
        rows = to_device(masked, logits.device)
        logits[rows] = logits[rows].masked_fill(to_device(banned, logits.device), -torch.inf)
        return logits

    def _follow(self, text: Sequence[int]) -> None:
        """Move the matcher to the end of the text."""
        news = self._text.look(text)
        if news.starts_anew:
            self._matcher, self._at, self._masks = self._compiled.deep_copy(), [], {}
        if news.tokens:
            self._go_to([])
            self._masks.clear()
            if self._matcher.try_consume_tokens([*news.tokens]) < len(news.tokens):
                raise self._stuck()

    def _go_to(self, path: Sequence[int]) -> bool:
        """Move the matcher to the end of a path behind the text; whether the grammar takes the path."""
        common = next(
            (count for count, (a, b) in enumerate(zip(self._at, path, strict=False)) if a != b),
            min(len(self._at), len(path)),
        )
        self._matcher.rollback(len(self._at) - common)
        rest = path[common:]
        taken = self._matcher.try_consume_tokens([*rest])
        self._at = [*path[: common + taken]]
        return taken == len(rest)

    def _mask_behind(self, path: Path, text: Sequence[int]) -> bytes | None:
        """InputError where the text itself can go no further."""
        if not self._end_tokens.isdisjoint(path) or not self._go_to(path):
            mask = None
        else:
            mask = self._matcher.compute_bitmask()
        if not self._matcher.is_error():
            return mask
        if not path:
            raise self._stuck()
        # A dead end, which no text may come to. One that does fails at its next step, whatever token it takes now.
        self._matcher, self._at = self._compiled.deep_copy(), []
        self._matcher.try_consume_tokens([*text])
        return self._all_but_ends()

    def _all_but_ends(self) -> bytes:
        allowed = np.ones(8 * len(self._matcher.compute_bitmask()), dtype=np.uint8)
        allowed[[*self._end_tokens]] = 0
        return np.packbits(allowed, bitorder="little").tobytes()

    def _stuck(self) -> InputError:
        reason = self._matcher.get_error().split("\n")[0] or "no token goes on with it"
        return InputError(f"the text can go no further under its grammar ({reason}); correct the grammar")
