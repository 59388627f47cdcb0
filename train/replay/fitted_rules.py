"""Fits the logistic rules by which C2T prunes and LTD stops, on recorded envelopes grown as by a beam."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...controller.policies.ltd import ltd_features
from ...controller.scorers.c2t import c2t_features
from ...controller.scorers.logistic import LogisticRule
from ...controller.trees.limits import TreeLimits
from ...controller.trees.tree import Array
from .recording import Recording

# Half an observation of each class, so that a class that never occurs has a finite log odds.
PRIOR_COUNT = 0.5


class Level(NamedTuple):
    """The nodes a beam drafts at one depth of one tree."""

    depth: int
    path_log_probs: Array  # [n] read through the scheme
    entropies: Array  # [n] of the rows that proposed them
    on_text: Array  # [n] bool, whether the text runs through the node


class FittedRules(NamedTuple):
    c2t: dict[str, LogisticRule]  # by scheme
    ltd: dict[str, LogisticRule]


def fit_rules(recordings: Mapping[str, Sequence[Recording]], limits: TreeLimits) -> FittedRules:
    """C2T's classifier and LTD's depth rule, from recordings by scheme."""
    rules = FittedRules({}, {})
    for scheme, of_scheme in recordings.items():
        trees = [tree for recording in of_scheme for tree in grown_levels(recording, limits)]
        rules.c2t[scheme], rules.ltd[scheme] = c2t_fit(trees), ltd_fit(trees)
    return rules


def grown_levels(recording: Recording, limits: TreeLimits) -> Iterator[list[Level]]:
    """Of each envelope the levels of a beam search that expands the `limits.width` likeliest nodes of a level."""
    for root, envelope in recording.envelopes.items():
        following = recording.tokens[root + 1 :]
        paths, on_text = np.zeros(len(envelope.tokens)), np.arange(len(envelope.tokens)) == 0
        levels: list[Level] = []
        frontier = np.zeros(1, dtype=np.int64)
        while len(levels) < limits.max_depth:
            children = envelope.drafted(frontier, limits)
            drafted = children >= 0
            level, above = children[drafted], np.broadcast_to(frontier[:, None], children.shape)[drafted]
            if len(level) == 0:
                break
            paths[level] = paths[above] + envelope.noisy_log_probs[level]
            on_text[level] = on_text[above] & (envelope.tokens[level] == following[len(levels)])
            levels.append(Level(len(levels) + 1, paths[level], envelope.entropies[level], on_text[level]))
            frontier = level[np.argsort(-paths[level], kind="stable")][: limits.width]
        yield levels


def c2t_fit(trees: list[list[Level]]) -> LogisticRule:
    """Predicts whether the text runs through a node; on all nodes of all trees."""
    levels = [level for tree in trees for level in tree]
    features = [c2t_features(level.path_log_probs, level.entropies, np.array(level.depth)) for level in levels]
    return _logistic(np.concatenate(features), np.concatenate([level.on_text for level in levels]))


def ltd_fit(trees: list[list[Level]]) -> LogisticRule:
    """Predicts whether the next level adds a token; on all levels but the last of each tree."""
    pairs = [pair for tree in trees for pair in pairwise(tree)]
    features = [ltd_features(np.exp(level.path_log_probs), level.depth) for level, _ in pairs]
    gained = [below.on_text.any() for _, below in pairs]
    return _logistic(np.array(features).reshape(-1, 3), np.array(gained, dtype=bool))


def _logistic(features: Array, labels: Array) -> LogisticRule:
    model = LogisticRegression(max_iter=1000)
    model.fit(
        np.concatenate((features, np.zeros((2, features.shape[1])))),
        np.concatenate((labels, [False, True])),
        sample_weight=np.concatenate((np.ones(len(labels)), [PRIOR_COUNT] * 2)),
    )
    first, second, third = np.asarray(model.coef_)[0].tolist()
    return LogisticRule((first, second, third), float(np.asarray(model.intercept_)[0]))
