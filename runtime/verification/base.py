"""The verifier: which drafted path the target's text takes, and the token after it."""

from typing import NamedTuple, Protocol

from torch import Tensor

from ...controller.contract import VerifierTerms
from ...controller.tree import Array, DraftTree
from ..sampling import TokenSampler


class Verdict(NamedTuple):
    path: Array  # [B, A] int64 accepted nodes, the root left out, -1 behind each tree's last
    next_tokens: Array  # [B] int64, the target's token after the last accepted node

    @property
    def accepted_lengths(self) -> Array:
        """[B]: accepted drafted tokens; block efficiency is one more."""
        return (self.path >= 0).sum(axis=1)


class Verifier(Protocol):
    terms: VerifierTerms

    def verify(self, tree: DraftTree, rows: Tensor, sampler: TokenSampler, root_positions: Array) -> Verdict:
        """Judge `tree` by the target's logits `rows` [B, N, V]; `root_positions` [B] are the roots' text indices."""
        ...
