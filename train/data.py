"""Training rows from traces: every reachable node of the trees that could stand on recorded text."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pyarrow as pa

from ..collect.trace import TraceFolder
from ..controller.features import stack_features
from ..controller.history import histories
from ..controller.tree import NUMBERS, Array, sibling_margins

# Shards whose rows are mixed before they are cut into batches: memory stays flat however long the traces are.
SHARDS_AT_ONCE = 2


@dataclass(frozen=True)
class Positions:
    """The position rows of whole texts as arrays, texts one after the other, R noise draws side by side."""

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

    @classmethod
    def from_table(cls, table: pa.Table, width: int) -> Self:
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
            return table[name].combine_chunks().flatten().to_numpy().reshape(-1, width)

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
        )

    @property
    def conditions(self) -> Array:
        """[n, 2 + H]: see `StepContext.conditions`."""
        return np.concatenate((self.temperature[:, None], self.top_p[:, None], self.history), axis=1)

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
)
COLUMNS = (
    *OWN_COLUMNS,
    "position",
    "draw",
    "rank",
    "fixed_rank",
    "candidate_log_probs",
    "candidate_noisy_log_probs",
)


@dataclass(frozen=True)
class Rows:
    """Training rows [m], one per (root, node, noise draw)."""

    features: Array  # [m, F] float32
    label: Array  # [m]: of an edge 1.0 where the text took it; of a node the rank of the token behind it, W if beyond
    document: Array  # [m] int64, see `document_number`
    depth: Array  # [m]

    def select(self, rows: Array) -> Self:
        return type(self)(*(getattr(self, column.name)[rows] for column in fields(self)))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


def reachable(positions: Positions, max_depth: int) -> tuple[Rows, Rows]:
    """Edges and nodes whose path is on the text: exactly what a walk can come to ask the two heads about."""
    reach = positions.reach(max_depth)
    width = positions.log_probs.shape[2]
    slots = np.arange(len(reach))
    emitted = np.maximum(positions.rank[:, 0], 0)
    path, noisy_path = np.zeros(len(reach)), np.zeros(len(reach))
    edges, nodes = [], [_root_rows(positions)]
    for depth in range(1, max_depth + 1):
        rows = slots[reach >= depth - 1]
        log_probs, noisy = positions.log_probs[rows], positions.noisy_log_probs[rows]
        numbers = (
            log_probs,
            noisy,
            positions.entropy[rows, None, None],
            positions.top_log_prob[rows, None, None],
            sibling_margins(noisy),
            path[rows, None, None] + log_probs,
            noisy_path[rows, None, None] + noisy,
        )
        features = stack_features(
            np.stack(np.broadcast_arrays(*numbers), axis=-1),
            np.arange(width),
            np.array(depth),
            positions.conditions[rows - depth + 1, None, None],
        )
        drafted = np.isfinite(noisy)
        taken = (positions.rank[rows, :, None] == np.arange(width)).astype(np.float32)
        document = np.broadcast_to(positions.document[rows, None, None], taken.shape)
        edges.append(Rows(features[drafted], taken[drafted], document[drafted], np.full(drafted.sum(), depth)))
        if depth < max_depth:
            on_text = np.append(reach[1:], 0)[rows] >= depth
            taken_ones = features[on_text, 0, emitted[rows[on_text]]]
            nodes.append(_node_rows(positions, taken_ones, rows[on_text] + 1, depth))
        # The path one level deeper starts one token further back.
        path = _shifted(path, positions.log_probs[slots, 0, emitted], depth)
        noisy_path = _shifted(noisy_path, np.nan_to_num(positions.noisy_log_probs[slots, 0, emitted]), depth)
    return Rows.joined(edges), Rows.joined(nodes)


def _root_rows(positions: Positions) -> Rows:
    """The roots before anything is drafted."""
    count = len(positions.text)
    nothing = np.zeros((count, len(NUMBERS)), dtype=np.float32)
    features = stack_features(nothing, np.array(0), np.array(0), positions.conditions)
    return _node_rows(positions, features, np.arange(count), 0)


def _node_rows(positions: Positions, features: Array, following: Array, depth: int) -> Rows:
    """Rows of nodes with `features` [k, F], whose next tokens stand at positions `following` [k], one per draw."""
    width = positions.log_probs.shape[2]
    made = np.isfinite(positions.noisy_log_probs[following, :, 0])  # [k, R]
    nodes, draws = np.nonzero(made)
    ranks = positions.rank[following[nodes], draws]
    label = np.where(ranks < 0, width, ranks).astype(np.int64)
    return Rows(features[nodes], label, positions.document[following[nodes]], np.full(len(nodes), depth))


def _shifted(sums: Array, values: Array, back: int) -> Array:
    """Add to each position's path sum the value `back` tokens before it; meaningless where the reach is shorter."""
    longer = sums.copy()
    longer[back:] += values[:-back]
    return longer


def document_number(name: str) -> int:
    """0 … 2^32 - 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def held_out_documents(folder: TraceFolder, share: float) -> Array:
    """Numbers of the documents kept for validation: that share of them, the lowest numbers first, at least one."""
    names = set(folder.read("texts", ["document"])["document"].to_pylist())
    numbers = sorted(document_number(name) for name in names)
    return np.array(numbers[: max(1, round(share * len(numbers)))], dtype=np.int64)


def read_rows(folder: TraceFolder, max_depth: int, order: Array) -> Iterator[tuple[Rows, Rows]]:
    """Edges and nodes of a few shards at a time, the shards in `order`."""
    for start in range(0, len(order), SHARDS_AT_ONCE):
        tables = [folder.shard("positions", int(number), COLUMNS) for number in order[start : start + SHARDS_AT_ONCE]]
        positions = [Positions.from_table(table, folder.header.width) for table in tables if table.num_rows]
        if pairs := [reachable(each, max_depth) for each in positions]:
            yield Rows.joined([edges for edges, _ in pairs]), Rows.joined([nodes for _, nodes in pairs])
