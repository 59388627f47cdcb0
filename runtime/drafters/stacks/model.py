"""A smaller drafter model as the lower stage (hierarchical speculative decoding, a chain of Cascade Speculative
Drafting, arXiv:2312.11462): it drafts a chain behind the root, one forward per token, for the larger one to read."""

from collections.abc import Sequence

import numpy as np

from ....controller.trees.tree import Array, DraftTree
from ...engines.base import Session
from ...prefixes.rows import NO_PREFIX, Prefix
from ...sampling import TokenSampler
from ..language_model import LanguageModelDrafter


class ModelStage:
    """A `Stage` (see `base`) that guesses once in a step, behind the root: it does not read what the larger model
    prefers to its chain before that is committed."""

    def __init__(self, drafter: LanguageModelDrafter, most: int):
        assert not drafter.scheme.sampled
        self.most = most
        self._drafter = drafter
        self._chains: DraftTree | None = None  # of this step

    def prepare(self, num_slots: int) -> None:
        self._drafter.prepare(num_slots, 1)

    def open(self) -> Sequence[Session]:
        self._chains = None
        return self._drafter.open()

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self._drafter.join(text, capacity, prefix)

    def keep(self, slots: Sequence[int]) -> None:
        self._drafter.keep(slots)

    def guess(self, tree: DraftTree, frontier: Array, deepest: Array, sampler: TokenSampler) -> DraftTree:
        if tree.tokens.shape[1] > 1:
            return tree
        chains, last = tree, frontier[:, :1]
        for depth in range(1, self.most + 1):
            last = np.where(depth <= deepest[:, None], last, -1)
            if (last < 0).all():
                break
            grown = self._drafter.expand(chains, last, 1, sampler)
            has_grown = (grown.num_nodes > chains.num_nodes)[:, None]
            chains, last = grown, np.where(has_grown, grown.num_nodes[:, None] - 1, -1)
        self._chains = chains
        return chains

    def follow(self, texts: Sequence[Array]) -> None:
        roots = DraftTree.from_roots(np.zeros(len(texts), dtype=np.int64))
        chains = roots if self._chains is None else self._chains
        paths = np.full((len(texts), chains.tokens.shape[1] - 1), -1)
        behind: list[Array] = []
        for slot, text in enumerate(texts):
            drafted = chains.tokens[slot, 1 : int(chains.num_nodes[slot])]
            size = min(len(text) - 1, len(drafted))  # one token at least is the next root
            num_equal = int((text[:size] == drafted[:size]).cumprod().sum())
            paths[slot, :num_equal] = np.arange(1, num_equal + 1)
            behind.append(text[num_equal:])
        self._drafter.follow(chains, paths, behind)
        self._chains = None
