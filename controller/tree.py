"""The draft tree: a batch of token trees as padded arrays, nodes in drafting order, node 0 the root."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Children(NamedTuple):
    """What a drafting law proposes under a frontier of F nodes, W children each, best first.

    A child whose `noisy_log_probs` is not finite is no candidate (the sampling cut it) and is never drafted.
    """

    tokens: Array  # [B, F, W] int64
    log_probs: Array  # [B, F, W] float32, drafter's log-probability under its own temperature and cut
    noisy_log_probs: Array  # [B, F, W] float32, log-softmax of the scores the law ranked by
    entropies: Array  # [B, F] float32, nats, of the drafter's row that proposed the children
    top_log_probs: Array  # [B, F] float32, the largest log-probability of that row


@dataclass(frozen=True, eq=False)
class DraftTree:
    """A batch of draft trees; the attention mask and the path sums follow from `parents`, so they are methods.

    `entropies` and `top_log_probs` describe the drafter's row that *proposed* the node, hence its parent's row.
    """

    num_nodes: Array  # [B] int64, root included
    tokens: Array  # [B, N] int64, the root is the last committed token
    parents: Array  # [B, N] int64, parents[b, i] < i; -1 at the root and at padding
    depths: Array  # [B, N] int64, 0 at the root, -1 at padding
    ranks: Array  # [B, N] int64, place among the siblings in the law's order
    log_probs: Array  # [B, N] float32, drafter's log q(token | path); 0 at the root
    noisy_log_probs: Array  # [B, N] float32, see `Children`; equals log_probs where the law adds no noise
    entropies: Array  # [B, N] float32
    top_log_probs: Array  # [B, N] float32
    margins: Array  # [B, N] float32, noisy lead over the best sibling; of the best itself, over the second
    path_log_probs: Array  # [B, N] float32, log_probs added up from the root (left out) to the node
    path_noisy_log_probs: Array  # [B, N] float32, the same of noisy_log_probs

    @classmethod
    def from_roots(cls, tokens: Array) -> Self:
        """The trees of B lone roots: what plain decoding verifies."""
        column = np.asarray(tokens, dtype=np.int64)[:, None]
        zeros, nothing = np.zeros_like(column), np.zeros(column.shape, dtype=np.float32)
        return cls(
            num_nodes=np.ones(len(column), dtype=np.int64),
            tokens=column,
            parents=zeros - 1,
            depths=zeros,
            ranks=zeros,
            log_probs=nothing,
            noisy_log_probs=nothing,
            entropies=nothing,
            top_log_probs=nothing,
            margins=nothing,
            path_log_probs=nothing,
            path_noisy_log_probs=nothing,
        )

    @property
    def valid(self) -> Array:
        """[B, N] bool: true at nodes, false at padding."""
        return np.arange(self.tokens.shape[1]) < self.num_nodes[:, None]

    def path_sums(self, values: Array) -> Array:
        """[B, N]: `values` added up from the root (left out) to each node; 0 at the root, -inf at padding.

        Parent plus child, level by level: with values <= 0 a child never exceeds its parent through rounding,
        which is what keeps the N best nodes parent-closed.
        """
        sums = np.where(self.valid, values, -np.inf)
        sums[:, 0] = 0.0
        for depth in range(1, self.depths.max() + 1):
            rows, nodes = np.nonzero(self.depths == depth)
            sums[rows, nodes] += sums[rows, self.parents[rows, nodes]]
        return sums

    def ancestors(self) -> Array:
        """[B, N, N] bool: entry (i, j) is true where j lies on the path from the root to i, i included.

        Padding sees itself alone, so that its attention stays finite.
        """
        num_trees, width = self.tokens.shape
        visible = np.broadcast_to(np.eye(width, dtype=bool), (num_trees, width, width)).copy()
        for depth in range(1, self.depths.max() + 1):
            rows, nodes = np.nonzero(self.depths == depth)
            visible[rows, nodes] |= visible[rows, self.parents[rows, nodes]]
        return visible

    def extend(self, frontier: Array, children: Children) -> Self:
        """The tree with `children` hung under `frontier` ([B, F] nodes, -1 where a tree has fewer)."""
        num_trees, _, width = children.tokens.shape
        chosen = (frontier >= 0)[:, :, None] & np.isfinite(children.noisy_log_probs)
        chosen = chosen.reshape(num_trees, -1)  # [B, F * W]
        rows, picks = np.nonzero(chosen)
        places = (self.num_nodes[:, None] + np.cumsum(chosen, axis=1) - 1)[rows, picks]
        num_nodes = self.num_nodes + chosen.sum(axis=1)
        above = np.repeat(frontier, width, axis=1)[rows, picks]
        new: dict[str, Array] = {
            "parents": above,
            "depths": self.depths[rows, above] + 1,
            "ranks": picks % width,
            "entropies": children.entropies[rows, picks // width],
            "top_log_probs": children.top_log_probs[rows, picks // width],
        }
        for name in ("tokens", "log_probs", "noisy_log_probs"):
            new[name] = getattr(children, name).reshape(num_trees, -1)[rows, picks]
        new["margins"] = _margins(children.noisy_log_probs).reshape(num_trees, -1)[rows, picks]
        for name in ("log_probs", "noisy_log_probs"):
            new[f"path_{name}"] = getattr(self, f"path_{name}")[rows, above] + new[name]
        columns: dict[str, Array] = {"num_nodes": num_nodes}
        for name, values in new.items():
            old = getattr(self, name)
            grown = np.full((num_trees, num_nodes.max()), PADDING.get(name, 0), dtype=old.dtype)
            grown[:, : old.shape[1]] = old
            grown[rows, places] = values
            columns[name] = grown
        return type(self)(**columns)

    def subtree(self, nodes: Array) -> Self:
        """The tree of `nodes` ([B, K], ascending, root first, parent-closed, -1 behind each tree's last)."""
        kept = nodes >= 0
        rows = np.arange(len(nodes))[:, None]
        places = np.full(self.tokens.shape, -1)
        tree_rows, order = np.nonzero(kept)
        places[tree_rows, nodes[tree_rows, order]] = order
        columns: dict[str, Array] = {"num_nodes": kept.sum(axis=1)}
        for name in COLUMNS:
            columns[name] = np.where(kept, getattr(self, name)[rows, nodes], PADDING.get(name, 0))
        parents = columns["parents"]
        columns["parents"] = np.where(parents >= 0, places[rows, parents], -1)
        assert (columns["parents"][:, 1:] >= 0)[kept[:, 1:]].all(), "the kept nodes are not parent-closed"
        return type(self)(**columns)


def _margins(noisy_log_probs: Array) -> Array:
    """[..., W] from siblings [..., W], best first; an only child leads by infinity."""
    best = noisy_log_probs[..., :1]
    second = noisy_log_probs[..., 1:2] if noisy_log_probs.shape[-1] > 1 else np.full_like(best, -np.inf)
    with np.errstate(invalid="ignore"):  # where nothing is finite, nothing is drafted
        return np.concatenate((best - second, noisy_log_probs[..., 1:] - best), axis=-1)


PADDING = {"parents": -1, "depths": -1}
COLUMNS = tuple(field.name for field in fields(DraftTree) if field.name != "num_nodes")
