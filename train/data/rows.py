"""Training rows from traces: every node that a walk along recorded text can reach."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from ...collect.trace import TraceFolder
from ...controller.learned.features import stack_features
from ...controller.trees.children import sibling_margins
from ...controller.trees.numbers import NodeNumbers
from ...controller.trees.tree import Array
from .positions import COLUMNS, Positions

# Shards whose rows are mixed before they are cut into batches: memory does not grow with the traces.
SHARDS_AT_ONCE = 2


@dataclass(frozen=True)
class Rows:
    """Training rows [m], one per (root, node, noise draw)."""

    features: Array  # [m, F] float32
    label: Array  # [m]: of an edge 1.0 if the text took it; of a node the rank of the next token, W if it has none
    document: Array  # [m] int64, see `document_number`
    depth: Array  # [m]
    num_draws: Array  # [m] noise draws of the position, hence correlated rows
    family: Array  # [m] int64 0, 1, ...: adjacent edges of one parent and draw form a family; a node is its own

    @property
    def starts(self) -> Array:
        """[f]: first row of each family."""
        return np.nonzero(np.diff(self.family, prepend=-1))[0]

    def select(self, rows: Array) -> Self:
        """The rows [k], or where a mask [m] is true; families stay whole and together."""
        columns = {column.name: getattr(self, column.name)[rows] for column in fields(self)}
        return type(self)(**columns | {"family": numbered(columns["family"])})

    def select_families(self, families: Array) -> Self:
        """The rows of `families` [k], in that order."""
        starts, lengths = self.starts[families], np.diff(self.starts, append=len(self.family))[families]
        first = np.repeat(starts - (lengths.cumsum() - lengths), lengths)
        return self.select(first + np.arange(len(first)))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        columns = {column.name: [getattr(part, column.name) for part in parts] for column in fields(cls)}
        counts = np.cumsum([0] + [len(part.starts) for part in parts[:-1]])
        columns["family"] = [family + count for family, count in zip(columns["family"], counts, strict=True)]
        return cls(**{name: np.concatenate(arrays) for name, arrays in columns.items()})


def numbered(keys: Array) -> Array:
    """[n]: 0, 1, ... along `keys` [n], a new number wherever the key changes."""
    return np.diff(keys, prepend=keys[:1]).astype(bool).cumsum()


def reachable(positions: Positions, max_depth: int) -> tuple[Rows, Rows]:
    """Edges and nodes whose path is on the text: exactly those that a walk can reach."""
    reach = positions.reach(max_depth)
    width = positions.log_probs.shape[2]
    slots = np.arange(len(reach))
    emitted = np.maximum(positions.rank[:, 0], 0)
    path, noisy_path = np.zeros(len(reach)), np.zeros(len(reach))
    undrafted = np.zeros((len(reach), len(NodeNumbers._fields)), dtype=np.float32)
    roots = stack_features(undrafted, np.array(0), np.array(0), positions.conditions)
    edges, nodes = [], [_node_rows(positions, roots, slots, 0)]
    for depth in range(1, max_depth + 1):
        rows = slots[reach >= depth - 1]
        log_probs, noisy = positions.log_probs[rows], positions.noisy_log_probs[rows]
        numbers = NodeNumbers(
            log_probs,
            noisy,
            positions.entropy[rows, None, None],
            positions.top_log_prob[rows, None, None],
            sibling_margins(noisy),
            positions.ngram_log_probs[rows],
            positions.ngram_top_log_prob[rows, None, None],
            path[rows, None, None] + log_probs,
            noisy_path[rows, None, None] + noisy,
        )
        features = stack_features(
            numbers.block(log_probs.shape),
            np.arange(width),
            np.array(depth),
            positions.conditions[rows - depth + 1, None, None],
        )
        drafted = np.isfinite(noisy)
        taken = (positions.rank[rows, :, None] == np.arange(width)).astype(np.float32)
        document = np.broadcast_to(positions.document[rows, None, None], taken.shape)
        num_draws = np.broadcast_to(positions.num_draws[rows, None, None], taken.shape)
        columns = (taken[drafted], document[drafted], np.full(drafted.sum(), depth), num_draws[drafted])
        parents = np.arange(taken[..., 0].size).reshape(taken.shape[:2])
        family = numbered(np.broadcast_to(parents[..., None], taken.shape)[drafted])
        edges.append(Rows(features[drafted], *columns, family))
        if depth < max_depth:
            on_text = np.append(reach[1:], 0)[rows] >= depth
            taken_ones = features[on_text, 0, emitted[rows[on_text]]]
            nodes.append(_node_rows(positions, taken_ones, rows[on_text] + 1, depth))
        # The path one level deeper starts one token further back.
        path = _shifted(path, positions.log_probs[slots, 0, emitted], depth)
        noisy_path = _shifted(noisy_path, np.nan_to_num(positions.noisy_log_probs[slots, 0, emitted]), depth)
    return Rows.joined(edges), Rows.joined(nodes)


def _node_rows(positions: Positions, features: Array, following: Array, depth: int) -> Rows:
    """Rows of nodes with `features` [k, F], whose next tokens are at positions `following` [k], one per draw."""
    width = positions.log_probs.shape[2]
    made = np.isfinite(positions.noisy_log_probs[following, :, 0])  # [k, R]
    nodes, draws = np.nonzero(made)
    ranks = positions.rank[following[nodes], draws]
    label = np.where(ranks < 0, width, ranks).astype(np.int64)
    next_rows = following[nodes]
    depths = np.full(len(nodes), depth)
    family = np.arange(len(nodes))
    return Rows(features[nodes], label, positions.document[next_rows], depths, positions.num_draws[next_rows], family)


def _shifted(sums: Array, values: Array, back: int) -> Array:
    """Add to each position's path sum the value `back` tokens before it; undefined where the reach is shorter."""
    longer = sums.copy()
    longer[back:] += values[:-back]
    return longer


def read_rows(folder: TraceFolder, max_depth: int, order: Array) -> Iterator[tuple[Rows, Rows]]:
    """Edges and nodes of a few shards at a time, the shards in `order`."""
    for start in range(0, len(order), SHARDS_AT_ONCE):
        tables = [folder.shard("positions", int(number), COLUMNS) for number in order[start : start + SHARDS_AT_ONCE]]
        positions = [Positions.from_table(table, folder.header) for table in tables if table.num_rows]
        if pairs := [reachable(each, max_depth) for each in positions]:
            yield Rows.joined([edges for edges, _ in pairs]), Rows.joined([nodes for _, nodes in pairs])
