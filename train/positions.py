"""The position rows of traces as arrays."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa

from ..controller.context import stack_conditions
from ..controller.history import histories
from ..controller.tree import Array


@dataclass(frozen=True)
class Positions:
    """The position rows of whole texts as arrays, texts one after the other, R noise draws side by side.

    W are the columns of candidates, the last of them the n-grams'.
    """

    text: Array  # [n] number of the text
    document: Array  # [n] int64, see `document_number`
    temperature: Array  # [n]
    top_p: Array  # [n]
    history: Array  # [n, H] known before the position's token was written
    entropy: Array  # [n] of the drafter's row
    top_log_prob: Array  # [n]
    rank: Array  # [n, R] place of the target's token among the candidates, -1 if beyond; draw 0 is the text's own
    fixed_rank: Array  # [n, R]
    log_probs: Array  # [n, R, W] of the candidates
    noisy_log_probs: Array  # [n, R, W]; -inf where the sampling cut the candidate, or the draw was not made
    ngram_log_probs: Array  # [n, R, W]
    ngram_top_log_prob: Array  # [n]

    @classmethod
    def from_table(cls, table: pa.Table, num_candidates: int) -> Self:
        draws = table["draw"].to_numpy()
        own = np.nonzero(draws == 0)[0]
        columns = {name: table[name].to_numpy()[own] for name in OWN_COLUMNS}
        every_text = _in_order(table["text_id"].to_numpy())
        text = every_text[own]
        # A text's other draws stand behind its own rows, position by position as they do.
        order = np.lexsort((draws, table["position"].to_numpy(), every_text))
        place = np.cumsum(draws[order] == 0) - 1
        shape = (len(own), int(draws.max(initial=0)) + 1)

        def spread(values: Array, empty: float) -> Array:
            grid = np.full((*shape, *values.shape[1:]), empty, dtype=values.dtype)
            grid[place, draws[order]] = values[order]
            return grid

        def candidates(name: str) -> Array:
            return table[name].combine_chunks().flatten().to_numpy().reshape(-1, num_candidates)

        history = np.concatenate(
            [
                histories(columns["target_log_prob"][text == number], columns["target_entropy"][text == number])
                for number in range(text.max(initial=-1) + 1)
            ]
        )
        documents, which = np.unique(columns["document"].astype(str), return_inverse=True)
        return cls(
            text=text,
            document=np.array([document_number(name) for name in documents], dtype=np.int64)[which],
            temperature=columns["temperature"],
            top_p=columns["top_p"],
            history=history,
            entropy=columns["draft_entropy"],
            top_log_prob=columns["draft_top_log_prob"],
            rank=spread(table["rank"].to_numpy(), -1),
            fixed_rank=spread(table["fixed_rank"].to_numpy(), -1),
            log_probs=spread(candidates("candidate_log_probs"), 0.0),
            noisy_log_probs=spread(candidates("candidate_noisy_log_probs"), -np.inf),
            ngram_log_probs=spread(candidates("candidate_ngram_log_probs"), 0.0),
            ngram_top_log_prob=columns["ngram_top_log_prob"],
        )

    @cached_property
    def conditions(self) -> Array:
        """[n, 2 + H], see `stack_conditions`."""
        return stack_conditions(self.temperature, self.top_p, self.history)

    @cached_property
    def num_draws(self) -> Array:
        """[n]: noise draws made at the position; greedy text has one."""
        return np.isfinite(self.noisy_log_probs[:, :, 0]).sum(axis=1)

    def reach(self, max_depth: int) -> Array:
        """[n]: how many tokens right before a position were among the candidates in an unbroken run, at most
        `max_depth`; a tree rooted up to that far back can have the position's candidates as nodes."""
        reach = np.zeros(len(self.text), dtype=np.int64)
        for row in range(1, len(reach)):
            if self.text[row] == self.text[row - 1] and self.rank[row - 1, 0] >= 0:
                reach[row] = min(reach[row - 1] + 1, max_depth)
        return reach


def _in_order(names: Array) -> Array:
    """[n]: each name's number, counted in the order of first appearance."""
    _, first, which = np.unique(names.astype(str), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


# What training reads of the position rows; no token ids, so that it works without them.
OWN_COLUMNS = (
    "text_id",
    "document",
    "temperature",
    "top_p",
    "target_log_prob",
    "target_entropy",
    "draft_entropy",
    "draft_top_log_prob",
    "ngram_top_log_prob",
)
COLUMNS = (
    *OWN_COLUMNS,
    "position",
    "draw",
    "rank",
    "fixed_rank",
    "candidate_log_probs",
    "candidate_noisy_log_probs",
    "candidate_ngram_log_probs",
)


def document_number(name: str) -> int:
    """0 … 2^32 - 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
