"""The draft tree: a batch of token trees as padded arrays, nodes in drafting order, node 0 the root."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from .children import Array, Children, sibling_margins

# The columns of a tree's two blocks, in their order.
LINKS = ("tokens", "parents", "depths", "ranks")
NUMBERS = (
    "log_probs",
    "noisy_log_probs",
    "entropies",
    "top_log_probs",
    "margins",
    "ngram_log_probs",
    "ngram_top_log_probs",
    "path_log_probs",
    "path_noisy_log_probs",
)
FIRST_PATH_SUM = NUMBERS.index("path_log_probs")


@dataclass(frozen=True, eq=False)
class DraftTree:
    """A batch of draft trees; the attention mask and the path sums follow from `parents`, so they are methods.

    The columns of a kind lie in one block, so that a level is hung in, and features are read, by a few copies.
    `entropies` and `top_log_probs` describe the drafter's row that *proposed* the node, hence its parent's row.
    """

    num_nodes: Array  # [B] int64, root included
    links: Array  # [B, N, 4] int64: see LINKS
    numbers: Array  # [B, N, 9] float32: see NUMBERS; 0 at the root and at padding
    paths: Array | None = None
    """[B, K, L] int64 the node drawn by path k at depth d + 1, -1 where path k made no draw; sampled schemes only.

    The draws under a node are in the order of the paths. Equal draws are one node, as often in `paths` as it was drawn.
    A trunk belongs to path 0. A tree drawn without replacement needs none: its siblings stand in draw order.
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
        """[B, N], place among the siblings in the scheme's order."""
        return self.links[:, :, 3]

    @property
    def log_probs(self) -> Array:
        """[B, N], drafter's log q(token | path)."""
        return self.numbers[:, :, 0]

    @property
    def noisy_log_probs(self) -> Array:
        """[B, N], see `Children`; equals log_probs where the scheme adds no noise."""
        return self.numbers[:, :, 1]

    @property
    def entropies(self) -> Array:
        """[B, N], nats."""
        return self.numbers[:, :, 2]

    @property
    def top_log_probs(self) -> Array:
        """[B, N]."""
        return self.numbers[:, :, 3]

    @property
    def margins(self) -> Array:
        """[B, N], see `sibling_margins`."""
        return self.numbers[:, :, 4]

    @property
    def ngram_log_probs(self) -> Array:
        """[B, N], the text's own n-grams' log-probability of the node's token; 0 where they do not draft."""
        return self.numbers[:, :, 5]

    @property
    def ngram_top_log_probs(self) -> Array:
        """[B, N], the same of the token they expect most there."""
        return self.numbers[:, :, 6]

    @property
    def path_log_probs(self) -> Array:
        """[B, N], log_probs added up from the root (left out) to the node."""
        return self.numbers[:, :, FIRST_PATH_SUM]

    @property
    def path_noisy_log_probs(self) -> Array:
        """[B, N], the same of noisy_log_probs."""
        return self.numbers[:, :, FIRST_PATH_SUM + 1]

    @property
    def valid(self) -> Array:
        """[B, N] bool: true at nodes, false at padding."""
        return np.arange(self.tokens.shape[1]) < self.num_nodes[:, None]

    def path_sums(self, values: Array, known: Array | None = None) -> Array:
        """[B, N]: `values` added up from the root (left out) to each node; 0 at the root, -inf at padding.

        Parent plus child, level by level: with values <= 0 a child never exceeds its parent through rounding,
        which is what keeps the N best nodes parent-closed. `known` are the sums [B, fewer] of the same trees before
        their last level was drafted.
        """
        level = int(self.depths.max())
        sums = np.full(self.tokens.shape, -np.inf)
        sums[:, 0] = 0.0
        if known is not None:
            sums[:, : known.shape[1]] = known
        for depth in range(1 if known is None else max(1, level), level + 1):
            rows, nodes = np.nonzero(self.depths == depth)
            sums[rows, nodes] = values[rows, nodes] + sums[rows, self.parents[rows, nodes]]
        return sums

    def extend(self, frontier: Array, children: Children) -> Self:
        """The tree with `children` hung under `frontier` ([B, F] nodes, -1 where a tree has fewer)."""
        num_trees, _, width = children.tokens.shape
        chosen = (frontier >= 0)[:, :, None] & np.isfinite(children.noisy_log_probs)
        rows, picks = np.nonzero(chosen.reshape(num_trees, -1))  # picks count through [F, W]
        counts = np.bincount(rows, minlength=num_trees)
        places = self.num_nodes[rows] + np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        expanded, ranks = np.divmod(picks, width)
        above = frontier[rows, expanded]
        drafted = (rows, expanded, ranks)
        links = np.stack((children.tokens[drafted], above, self.depths[rows, above] + 1, ranks), axis=1)
        numbers = np.zeros((len(rows), len(NUMBERS)), dtype=np.float32)
        numbers[:, 0] = children.log_probs[drafted]
        numbers[:, 1] = children.noisy_log_probs[drafted]
        numbers[:, 2] = children.entropies[rows, expanded]
        numbers[:, 3] = children.top_log_probs[rows, expanded]
        numbers[:, 4] = sibling_margins(children.noisy_log_probs)[drafted]
        if children.ngram_log_probs is not None and children.ngram_top_log_probs is not None:
            numbers[:, 5] = children.ngram_log_probs[drafted]
            numbers[:, 6] = children.ngram_top_log_probs[rows, expanded]
        numbers[:, FIRST_PATH_SUM:] = self.numbers[rows, above, FIRST_PATH_SUM:] + numbers[:, :2]
        num_nodes = self.num_nodes + counts
        grown = type(self)(num_nodes, *_blank(num_trees, int(num_nodes.max())), self.paths)
        for old, wider, new in ((self.links, grown.links, links), (self.numbers, grown.numbers, numbers)):
            wider[:, : old.shape[1]] = old
            wider[rows, places] = new
        return grown

    def subtree(self, nodes: Array) -> Self:
        """The tree of `nodes` ([B, K], ascending, root first, parent-closed, -1 behind each tree's last)."""
        trees, order = np.nonzero(nodes >= 0)
        kept = nodes[trees, order]
        places = np.full(self.tokens.shape, -1)
        places[trees, kept] = order
        paths = self.paths
        if paths is not None:
            paths = np.where(paths >= 0, places[np.arange(len(paths))[:, None, None], paths], -1)
        smaller = type(self)((nodes >= 0).sum(axis=1), *_blank(*nodes.shape), paths)
        links = self.links[trees, kept]
        links[:, 1] = np.where(order > 0, places[trees, links[:, 1]], -1)
        assert (links[order > 0, 1] >= 0).all(), "the kept nodes are not parent-closed"
        smaller.links[trees, order] = links
        smaller.numbers[trees, order] = self.numbers[trees, kept]
        return smaller


def _blank(num_trees: int, width: int) -> tuple[Array, Array]:
    """Links and numbers of padding alone."""
    links = np.zeros((num_trees, width, len(LINKS)), dtype=np.int64)
    links[:, :, 1:3] = -1
    return links, np.zeros((num_trees, width, len(NUMBERS)), dtype=np.float32)
