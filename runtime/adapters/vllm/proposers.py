"""vLLM's own drafters as drafters of trees: the chain they draft, with the runners-up beside each of its tokens.

A draft model and the EAGLE heads draft one token per forward, from one row of scores. The row's other best tokens are
siblings that cost no forward. Each level is drafted as the policy decides, and the chain goes on from the node that the
policy would expand first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer

from ....controller.trees.tree import Array
from .drafting import Growth


class EnoughError(Exception):
    """Raised out of vLLM's loop of drafts where no tree grows on; what the loop leaves behind is written anew."""


class TreeChain:
    """A mix-in over vLLM's proposers. The runner gives it the `growth` of a step before it asks for drafts."""

    model: Any
    _growth: Growth | None = None
    _rows: Sequence[int]  # the batch row of each slot
    _frontier: Array  # [S, F] what the next row of scores is drafted under

    def grow(self, growth: Growth | None, rows: Sequence[int] = ()) -> None:
        """Draft these trees next; None: only read what was committed."""
        self._growth, self._rows = growth, rows
        if growth is not None:
            self._frontier = growth.frontier()

    def propose(self, num_speculative_tokens: int, *args: Any, **options: Any) -> Any:
        """vLLM's loop, as deep as the trees may become. Its first forward reads what was committed, in any case."""
        depth = 1 if self._growth is None else self._growth.shaping.policy.limits.max_depth
        inherited: Any = super()
        try:
            return inherited.propose(depth, *args, **options)
        except EnoughError:
            return None

    def _greedy_sample(self, hidden_states: Tensor) -> Tensor:
        growth = self._growth
        if growth is None or not self._frontier.shape[1]:
            raise EnoughError
        logits = self.model.compute_logits(hidden_states)
        growth.expand(self._frontier, logits[self._rows][:, None].float())
        self._frontier = growth.frontier()
        if not self._frontier.shape[1]:
            raise EnoughError
        tokens = torch.zeros(len(logits), dtype=torch.int64)
        for slot, (row, node) in enumerate(zip(self._rows, self._frontier[:, 0].tolist(), strict=True)):
            tokens[row] = int(growth.tree.tokens[slot, max(node, 0)])
        return tokens


class TreeDraftModelProposer(TreeChain, DraftModelProposer):
    """A draft model."""


class TreeEagleProposer(TreeChain, EagleProposer):
    """An EAGLE-1 or EAGLE-3 head."""
