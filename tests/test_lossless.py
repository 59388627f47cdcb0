"""Tree decoding writes the target's own text, token for token, whatever drew the tree."""

import numpy as np
import pytest
import tiny
import torch
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.selector import Selector, TreeLimits
from treewright.runtime.noise import KeyedNoise

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)
SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 0.5, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 7},
    {"temperature": 1.3, "top_k": 12, "top_p": 0.95},
]


class RandomScorer:
    """Scores nodes and draws the number of levels at random."""

    def __init__(self):
        self.generator = np.random.default_rng(3)

    def score(self, tree, context):
        return -self.generator.exponential(size=tree.tokens.shape)

    def coverage(self, tree, context):
        return np.where(self.generator.random((*tree.tokens.shape, 3)) < 0.8, -1.0, -np.inf)


class WorstScorer(ConfidenceScorer):
    """Prefers the tokens the drafter believes in least."""

    def score(self, tree, context):
        return -1.0 / (1.0 + tree.ranks)


class PeekingScorer(ConfidenceScorer):
    """Reads the sampling noise of the tokens it decides about, and keeps the unlucky ones."""

    def __init__(self, requests):
        super().__init__()
        self.noise = [KeyedNoise(r.sampling.seed, 0, tiny.VOCABULARY_SIZE, torch.device("cpu")) for r in requests]

    def score(self, tree, context):
        scores = np.zeros(tree.tokens.shape)
        for row, noise in enumerate(self.noise):
            for node in range(1, int(tree.num_nodes[row])):
                place = int(context.positions[row] + tree.depths[row, node])
                scores[row, node] = -np.exp(0.3 * float(noise.at(place)[tree.tokens[row, node]]))
        return scores


SCORERS = {
    "confidence": lambda requests: ConfidenceScorer(),
    "rank": lambda requests: RankScorer(np.log([[0.5, 0.2, 0.1]] * 4)),
    "static paths": lambda requests: RankScorer.from_paths([(0,), (1,), (0, 0), (0, 2), (0, 2, 0)]),
    "random": lambda requests: RandomScorer(),
    "adversarial": lambda requests: WorstScorer(),
    "peeking": lambda requests: PeekingScorer(requests),
}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("law", [COUPLED, FIXED], ids=lambda law: law.name)
def test_every_tree_writes_the_plain_text(settings, batch, scorer, law):
    requests = tiny.requests(batch, **settings)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    plain, _ = tiny.decoder(target).generate(requests)
    selector = Selector(SCORERS[scorer](requests), LIMITS)
    trees, stats = tiny.decoder(target, drafter, selector, law).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_kept > 0
