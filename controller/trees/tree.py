"""The draft tree: a batch of token trees as padded arrays, nodes in drafting order, node 0 the root."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from .children import Array, Children, sibling_margins
from .numbers import NodeNumbers

NO_NGRAMS = np.zeros((), dtype=np.float32)
LINKS = ("tokens", "parents", "depths", "ranks")
PATH_LOG_PROBS, PATH_NOISY_LOG_PROBS = map(NodeNumbers._fields.index, ("path_log_probs", "path_noisy_log_probs"))


def _number(name: str) -> property:
    """The column of one of the `NodeNumbers`."""
    index = NodeNumbers._fields.index(name)
    return property(lambda tree: tree.numbers[:, :, index], doc=f"[B, N], see `NodeNumbers.{name}`.")


@dataclass(frozen=True, eq=False)
class DraftTree:
    """A batch of draft trees; the attention mask and the path sums follow from `parents`, so they are methods.

    The columns of a kind lie in one block, so that a level is appended, and features are read, by a few copies.
    """

    num_nodes: Array  # [B] int64, root included
    links: Array  # [B, N, 4] int64, a column per name of LINKS
    numbers: Array  # [B, N, 9] float32, a column per field of NodeNumbers; 0 at the root and at padding
    paths: Array | None = None
    """[B, K, L] int64 the node sampled by path k at depth d + 1, -1 where path k made no draw; sampled schemes only.

    The draws under a node are in the order of the paths. Equal draws are one node, as often in `paths` as it was drawn.
    A trunk belongs to path 0. A tree drawn without replacement needs none: its siblings are in draw order.
    """

    @classmethod
    def from_roots(cls, tokens: Array) -> Self:
        """The trees of B lone roots: what plain decoding verifies."""
        roots = cls(np.ones(len(tokens), dtype=np.int64), *_blank(len(tokens), 1))
        roots.tokens[:, 0] = tokens
        roots.depths[:, 0] = 0
        return roots

    @property
    def tokens(self) -> Array:
        """[B, N]; the root is the last committed token."""
        return self.links[:, :, 0]

    @property
    def parents(self) -> Array:
        """[B, N], parents[b, i] < i; -1 at the root and at padding."""
        return self.links[:, :, 1]

    @property
    def depths(self) -> Array:
        """[B, N], 0 at the root, -1 at padding."""
        return self.links[:, :, 2]

    @property
    def ranks(self) -> Array:
        """[B, N], index among the siblings in the scheme's order."""
        return self.links[:, :, 3]

    log_probs = _number("log_probs")
    noisy_log_probs = _number("noisy_log_probs")
    entropies = _number("entropies")
    top_log_probs = _number("top_log_probs")
    margins = _number("margins")
    ngram_log_probs = _number("ngram_log_probs")
    ngram_top_log_probs = _number("ngram_top_log_probs")
    path_log_probs = _number("path_log_probs")
    path_noisy_log_probs = _number("path_noisy_log_probs")

    @property
    def valid(self) -> Array:
        """[B, N] bool: true at nodes, false at padding."""
        return np.arange(self.tokens.shape[1]) < self.num_nodes[:, None]

    @cached_property
    def deepest(self) -> int:
        """The depth of the deepest node of all."""
        return int(self.depths.max())

    def path_sums(self, values: Array, known: Array | None = None) -> Array:
        """[B, N]: `values` added up from the root (left out) to each node; 0 at the root, -inf at padding.

        Parent plus child, level by level: with values <= 0 a child never exceeds its parent through rounding,
        which is what keeps the N best nodes parent-closed. `known` are the sums [B, fewer] of the same trees before
        their last level was drafted.
        """
        level = self.deepest
        sums = np.full(self.tokens.shape, -np.inf)
        sums[:, 0] = 0.0
        if known is not None:
            sums[:, : known.shape[1]] = known
        for depth in range(1 if known is None else max(1, level), level + 1):
            rows, nodes = np.nonzero(self.depths == depth)
            sums[rows, nodes] = values[rows, nodes] + sums[rows, self.parents[rows, nodes]]
        return sums

    def extend(self, frontier: Array, children: Children) -> Self:
        """The tree with `children` appended to the nodes of `frontier` ([B, F] nodes, -1 where a tree has fewer)."""
        num_trees, num_expanded, width = children.tokens.shape
        chosen = np.isfinite(children.noisy_log_probs)
        chosen &= (frontier >= 0)[:, :, None]
        picks = np.flatnonzero(chosen)  # through [B, F, W]
        expanded, ranks = np.divmod(picks, width)  # through [B, F]
        rows = expanded // num_expanded
        counts = np.bincount(rows, minlength=num_trees)
        indices = np.arange(len(rows)) + (self.num_nodes + counts - counts.cumsum())[rows]
        above = frontier.reshape(-1)[expanded]
        log_probs, noisy_log_probs = (column.reshape(-1)[picks] for column in children[1:3])
        of_above = self.numbers[rows, above]
        ngrams, ngrams_top = children.ngram_log_probs, children.ngram_top_log_probs
        numbers = NodeNumbers(
            log_probs,
            noisy_log_probs,
            children.entropies.reshape(-1)[expanded],
            children.top_log_probs.reshape(-1)[expanded],
            sibling_margins(children.noisy_log_probs).reshape(-1)[picks],
            NO_NGRAMS if ngrams is None else ngrams.reshape(-1)[picks],
            NO_NGRAMS if ngrams_top is None else ngrams_top.reshape(-1)[expanded],
            of_above[:, PATH_LOG_PROBS] + log_probs,
            of_above[:, PATH_NOISY_LOG_PROBS] + noisy_log_probs,
        ).block((len(rows),))
        links = np.empty((len(rows), len(LINKS)), dtype=np.int64)
        links[:, 0], links[:, 1], links[:, 3] = children.tokens.reshape(-1)[picks], above, ranks
        links[:, 2] = self.depths[rows, above] + 1
        num_nodes = self.num_nodes + counts
        grown = type(self)(num_nodes, *_blank(num_trees, int(num_nodes.max())), self.paths)
        for old, wider, new in ((self.links, grown.links, links), (self.numbers, grown.numbers, numbers)):
            wider[:, : old.shape[1]] = old
            wider[rows, indices] = new
        return grown

    def with_nodes(self, tokens: Array, parents: Array) -> Self:
        """The trees with `tokens` [B, n] appended under `parents` [B, n], -1 behind each tree's last: nodes of the
        tree, or earlier ones of these, which are numbered on. Their `numbers` are 0."""
        num_nodes = self.num_nodes + (parents >= 0).sum(axis=1)
        size = self.tokens.shape[1]
        grown = type(self)(num_nodes, *_blank(len(tokens), max(size, int(num_nodes.max()))), self.paths)
        grown.links[:, :size], grown.numbers[:, :size] = self.links, self.numbers
        for place in range(tokens.shape[1]):
            (rows,) = np.nonzero(parents[:, place] >= 0)
            nodes, above = self.num_nodes[rows] + place, parents[rows, place]
            grown.tokens[rows, nodes], grown.parents[rows, nodes] = tokens[rows, place], above
            grown.depths[rows, nodes] = grown.depths[rows, above] + 1
        return grown

    def row(self, index: int) -> Self:
        """One tree of the batch, without its padding."""
        size, here = int(self.num_nodes[index]), slice(index, index + 1)
        paths = None if self.paths is None else self.paths[here]
        return type(self)(self.num_nodes[here], self.links[here, :size], self.numbers[here, :size], paths)

    def subtree(self, nodes: Array) -> Self:
        """The tree of `nodes` ([B, K], ascending, root first, parent-closed, -1 behind each tree's last)."""
        trees, order = np.nonzero(nodes >= 0)
        kept = nodes[trees, order]
        indices = np.full(self.tokens.shape, -1)
        indices[trees, kept] = order
        paths = self.paths
        if paths is not None:
            paths = np.where(paths >= 0, indices[np.arange(len(paths))[:, None, None], paths], -1)
        smaller = type(self)((nodes >= 0).sum(axis=1), *_blank(*nodes.shape), paths)
        links = self.links[trees, kept]
        links[:, 1] = np.where(order > 0, indices[trees, links[:, 1]], -1)
        assert (links[order > 0, 1] >= 0).all(), "the kept nodes are not parent-closed"
        smaller.links[trees, order] = links
        smaller.numbers[trees, order] = self.numbers[trees, kept]
        return smaller


def _blank(num_trees: int, width: int) -> tuple[Array, Array]:
    """Links and numbers of padding alone."""
    links = np.zeros((num_trees, width, len(LINKS)), dtype=np.int64)
    links[:, :, 1:3] = -1
    return links, np.zeros((num_trees, width, len(NodeNumbers._fields)), dtype=np.float32)
