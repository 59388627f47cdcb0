"""One tree for all steps (Medusa, arXiv:2401.10774; Sequoia, arXiv:2402.12374)."""

from collections import Counter
from collections.abc import Sequence

from ..scorers.rank import RankScorer
from ..trees.limits import TreeLimits
from ..trees.shapes import Path
from .selector import Selector


def static_tree(paths: Sequence[Path], *, min_prob: float = 0.0, path_prob: float = 0.0) -> Selector:
    """Drafts the nodes of `paths`; the thresholds are those of `Selector`. InputError for paths that are no tree."""
    scorer = RankScorer.from_paths(paths)
    parents = Counter(map(len, {path[:-1] for path in paths}))  # by depth
    limits = TreeLimits(scorer.max_depth, scorer.width, frontier=max(parents.values()), budget=len(paths))
    return Selector(scorer, limits, min_prob=min_prob, path_prob=path_prob)
