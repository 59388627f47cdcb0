"""The position rows of traces as arrays."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa

from ...collect.trace import TraceHeader, rank_column
from ...collect.trace.schema import PositionRow
from ...controller.context import stack_conditions
from ...controller.contract import RANKED_SCHEMES
from ...controller.learned.history import histories
from ...controller.trees.tree import Array


@dataclass(frozen=True)
class Positions:
    """The position rows of whole texts as arrays, text after text, with R noise draws each.

    W candidates, the last of them the n-grams'.
    """

    scheme: str  # of the candidates
    text: Array  # [n] number of the text
    document: Array  # [n] int64, see `document_number`
    temperature: Array  # [n]
    top_p: Array  # [n]
    history: Array  # [n, H] known before the position's token was generated
    entropy: Array  # [n] of the drafter's row
    top_log_prob: Array  # [n]
    ranks: dict[str, Array]  # by scheme, [n, R] index of the target's token among its candidates, -1 if it is none
    log_probs: Array  # [n, R, W] of the candidates
    noisy_log_probs: Array  # [n, R, W]; -inf where the sampling cut the candidate, or the draw was not made
    ngram_log_probs: Array  # [n, R, W]
    ngram_top_log_prob: Array  # [n]

    @classmethod
    def from_table(cls, table: pa.Table, header: TraceHeader) -> Self:
        """Of rows with at least COLUMNS, from a folder with this `header`."""
        draws = table["draw"].to_numpy()
        own = np.nonzero(draws == 0)[0]
        every_text, _ = numbered_names(table["text_id"])
        text = every_text[own]
        # Within a text by position, within a position by draw.
        order = np.lexsort((draws, table["position"].to_numpy(), every_text))
        row = np.cumsum(draws[order] == 0) - 1
        shape = (len(own), int(draws.max(initial=0)) + 1)

        def spread(values: Array, empty: float) -> Array:
            grid = np.full((*shape, *values.shape[1:]), empty, dtype=values.dtype)
            grid[row, draws[order]] = values[order]
            return grid

        def numbers(name: str) -> Array:
            return table[name].to_numpy()[own]

        def candidates(name: str) -> Array:
            return table[name].combine_chunks().flatten().to_numpy().reshape(-1, header.num_candidates)

        document, names = numbered_names(table["document"])
        return cls(
            scheme=header.scheme,
            text=text,
            document=np.array([document_number(name) for name in names], dtype=np.int64)[document[own]],
            temperature=numbers("temperature"),
            top_p=numbers("top_p"),
            history=text_histories(text, numbers("target_log_prob"), numbers("target_entropy")),
            entropy=numbers("draft_entropy"),
            top_log_prob=numbers("draft_top_log_prob"),
            ranks={scheme: spread(table[rank_column(scheme)].to_numpy(), -1) for scheme in RANKED_SCHEMES},
            log_probs=spread(candidates("candidate_log_probs"), 0.0),
            noisy_log_probs=spread(candidates("candidate_noisy_log_probs"), -np.inf),
            ngram_log_probs=spread(candidates("candidate_ngram_log_probs"), 0.0),
            ngram_top_log_prob=numbers("ngram_top_log_prob"),
        )

    @property
    def rank(self) -> Array:
        """[n, R] index of the target's token among the candidates, -1 if it is none; draw 0 is the text's own."""
        return self.ranks[self.scheme]

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


def numbered_names(names: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """[n]: each name's number, counted in the order of first appearance; and the names by number."""
    encoded = pa.concat_arrays([pa.array([], pa.string()), *names.chunks]).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def text_histories(text: Array, log_probs: Array, entropies: Array) -> Array:
    """[n, H] of the columns [n] of texts one after the other, `text` [n] their numbers; see `histories`."""
    starts = np.nonzero(np.diff(text))[0] + 1
    parts = (np.split(values, starts) for values in (log_probs, entropies))
    return np.concatenate([histories(*of_text) for of_text in zip(*parts, strict=True)])


# What training reads of the position rows; no token ids, so that it works without them.
UNREAD = ("emitted", "draft_log_prob", "overlap", "candidates")
COLUMNS = tuple(name for name in PositionRow._fields if name not in UNREAD)


def document_number(name: str) -> int:
    """0 … 2^32 - 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
