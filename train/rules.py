"""Fits of the small rules some baselines prune and stop by, on the recorded envelopes grown as a beam would."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from ..collect.trace import TraceFolder
from ..controller.policies.c2t import c2t_features
from ..controller.policies.stop import stop_features
from ..controller.selector import TreeLimits
from ..controller.tree import Array

# A class that never occurs still gets half an observation.
PRIOR_COUNT = 0.5


class Level(NamedTuple):
    """The nodes a beam drafts at one depth of one tree."""

    depth: int
    path_log_probs: Array  # [n] read through the law
    entropies: Array  # [n] of the rows that proposed them
    on_text: Array  # [n] bool, whether the text runs through the node


def rule_fits(folder: TraceFolder, limits: TreeLimits) -> dict[str, dict[str, Any]]:
    """Weights and bias of C2T's classifier (`c2t`) and of the stop rule (`ltd`) by law; empty without envelopes.

    The envelopes were drafted under the law of the traces, so the fits hold for that one.
    """
    trees = list(grown_levels(folder, limits))
    if not trees:
        return {}
    return {"c2t": {folder.header.law: c2t_fit(trees)}, "ltd": {folder.header.law: stop_fit(trees)}}


def grown_levels(folder: TraceFolder, limits: TreeLimits) -> Iterator[list[Level]]:
    """Of each envelope the levels of a beam that expands the `limits.width` likeliest nodes of a level."""
    texts = {row["text_id"]: np.array(row["tokens"]) for row in folder.texts().to_pylist()}
    for row in folder.nodes().to_pylist():
        following = texts[row["text_id"]][row["position"] + 1 :]
        tokens, parents, ranks = (np.array(row[name]) for name in ("tokens", "parents", "ranks"))
        log_probs, entropies = np.array(row["noisy_log_probs"]), np.array(row["entropies"])
        paths, on_text = np.zeros(len(tokens)), np.arange(len(tokens)) == 0
        levels: list[Level] = []
        frontier = np.zeros(1, dtype=np.int64)
        while len(levels) < limits.max_depth:
            level = np.nonzero(np.isin(parents, frontier) & (ranks < limits.width))[0]
            if len(level) == 0:
                break
            above = parents[level]
            paths[level] = paths[above] + log_probs[level]
            on_text[level] = on_text[above] & (tokens[level] == following[len(levels)])
            levels.append(Level(len(levels) + 1, paths[level], entropies[level], on_text[level]))
            frontier = level[np.argsort(-paths[level], kind="stable")][: limits.width]
        yield levels


def c2t_fit(trees: list[list[Level]]) -> dict[str, Any]:
    """Will the text run through the node? On all nodes of all trees."""
    levels = [level for tree in trees for level in tree]
    features = [c2t_features(level.path_log_probs, level.entropies, np.array(level.depth)) for level in levels]
    return _logistic(np.concatenate(features), np.concatenate([level.on_text for level in levels]))


def stop_fit(trees: list[list[Level]]) -> dict[str, Any]:
    """Does the level behind a level add a token? On all levels that have one behind them."""
    pairs = [pair for tree in trees for pair in pairwise(tree)]
    features = [stop_features(np.exp(level.path_log_probs), level.depth) for level, _ in pairs]
    gained = [below.on_text.any() for _, below in pairs]
    return _logistic(np.array(features).reshape(-1, 3), np.array(gained, dtype=bool))


def _logistic(features: Array, labels: Array) -> dict[str, Any]:
    model = LogisticRegression(max_iter=1000)
    model.fit(
        np.concatenate((features, np.zeros((2, features.shape[1])))),
        np.concatenate((labels, [False, True])),
        sample_weight=np.concatenate((np.ones(len(labels)), [PRIOR_COUNT] * 2)),
    )
    return {"weights": model.coef_[0].tolist(), "bias": float(model.intercept_[0])}
