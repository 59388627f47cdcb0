"""The verifier: which drafted path the target's text takes, and the token after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from ...controller.contract import VerifierTerms
from ...controller.trees.tree import Array, DraftTree
from ..sampling import TokenSampler
from ..surprise import Surprises

DraftRows = Sequence[Mapping[int, Tensor]]
"""Per slot: node -> draft_log_probs [V], logarithms of the distribution its children were really drawn from (the
drafter's temperature and cut included), for every node that was drawn from. Empty for the walk."""


class Verdict(NamedTuple):
    path: Array  # [B, A] int64 accepted nodes, the root left out, -1 behind each tree's last
    next_tokens: Array  # [B] int64, the target's token after the last accepted node
    surprises: Surprises | None = None  # of the token that the target drew after each node, where they are at hand

    @property
    def accepted_lengths(self) -> Array:
        """[B]: accepted drafted tokens; block efficiency is one more."""
        return (self.path >= 0).sum(axis=1)


@dataclass(frozen=True, eq=False)
class StopDistribution:
    """What a verification of one drafted tree may end in, with the probability of each end."""

    joint: Tensor  # [N, V] probability that the verification ends at a node and emits a token there

    @property
    def stop(self) -> Tensor:
        """[N] probability that the verification ends at a node; 1 + sum(stop * depth) is the block efficiency."""
        return self.joint.sum(dim=-1)


class Verifier(Protocol):
    terms: VerifierTerms

    def verify(
        self,
        tree: DraftTree,
        rows: Tensor,
        draft_rows: DraftRows,
        sampler: TokenSampler,
        root_positions: Array,
        *,
        surprises: bool = False,
    ) -> Verdict:
        """Judge `tree` by the target's logits `rows` [B, N, V]; `root_positions` [B] are the roots' text indices.

        On the host a row is warped only when the verification comes to its node. `surprises`: whether they will be
        asked for, so that a verifier that reads all nodes' tokens back may read them in the same wait.
        """
        ...

    def distribution(self, tree: DraftTree, target_rows: Tensor, draft_rows: DraftRows) -> StopDistribution:
        """What `verify` does to one tree (B = 1), in the dtype of the target's probabilities `target_rows` [N, V]."""
        ...
