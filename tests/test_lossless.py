"""Tree decoding generates the target's own text, token for token, whatever chose the tree."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import plans
import pytest
import tiny
import torch
from treewright.controller.contract import COUPLED, FIXED, HYBRID, SAMPLED_SCHEMES
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.scorer import LearnedScorer
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.guard import Guard
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.objective import Objective
from treewright.controller.scorers.base import Scores
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.scorers.rank import RankScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.noise import KeyedNoise
from treewright.runtime.schemes.ranked import get_ranked_scheme
from treewright.train.fit.export import export_onnx

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

    reads_history = False

    def score(self, tree, context, before=None):
        coverage = np.where(self.generator.random((*tree.tokens.shape, 3)) < 0.8, -1.0, -np.inf)
        return Scores(tree, -self.generator.exponential(size=tree.tokens.shape), coverage)


class WorstScorer(ConfidenceScorer):
    """Prefers the tokens the drafter believes in least."""

    def score(self, tree, context, before=None):
        return super().score(tree, context)._replace(accept=-1.0 / (1.0 + tree.ranks))


class PeekingScorer(ConfidenceScorer):
    """Reads the sampling noise of the tokens it decides about, and keeps the unlucky ones.

    Once a text has ended, another may take its row and be judged by its noise.
    """

    def __init__(self, requests):
        super().__init__()
        self.noise = [KeyedNoise(r.sampling.seed, 0, tiny.VOCABULARY_SIZE) for r in requests]

    def score(self, tree, context, before=None):
        scores = np.zeros(tree.tokens.shape)
        for row, noise in enumerate(self.noise[: len(scores)]):
            for node in range(1, int(tree.num_nodes[row])):
                position = int(context.positions[row] + tree.depths[row, node])
                scores[row, node] = -np.exp(0.3 * float(noise.at(position)[tree.tokens[row, node]]))
        return super().score(tree, context)._replace(accept=scores)


SCORERS = {
    "confidence": lambda requests: ConfidenceScorer(),
    "rank": lambda requests: RankScorer(np.log([[0.5, 0.2, 0.1]] * 4)),
    "static paths": lambda requests: RankScorer.from_paths([(0,), (1,), (0, 0), (0, 2), (0, 2, 0)]),
    "random": lambda requests: RandomScorer(),
    "adversarial": lambda requests: WorstScorer(),
    "peeking": lambda requests: PeekingScorer(requests),
    "learned": lambda requests: LearnedScorer.from_bytes(random_graph()),
}


@cache
def random_graph():
    """An exported network that was never trained."""
    torch.manual_seed(5)
    return export_onnx(SelectorModel(len(FEATURES), 4).eval(), len(FEATURES))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
def test_every_tree_generates_the_plain_text(settings, batch, scorer, scheme):
    requests = tiny.requests(batch, **settings)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    plain, _ = tiny.decoder(target).generate(requests)
    selector = Selector(SCORERS[scorer](requests), LIMITS)
    trees, stats = tiny.decoder(target, drafter, selector, scheme).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_kept > 0


class NgramScorer(ConfidenceScorer):
    """Believes the text's own n-grams alone."""

    def score(self, tree, context, before=None):
        return super().score(tree, context)._replace(accept=tree.ngram_log_probs)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
def test_what_the_texts_own_ngrams_draft_changes_no_text(settings, batch, scheme):
    """The drafter knows little here; the tokens come from few, so that texts repeat themselves."""
    requests = tiny.requests(batch, **settings, max_tokens=60)
    target, drafter = tiny.llama(), tiny.llama(noise=0.08)
    plain, _ = tiny.decoder(target).generate(requests)
    selector = Selector(NgramScorer(), replace(LIMITS, width=2, ngrams=True))
    decoder = tiny.decoder(target, drafter, selector, scheme)
    streams = decoder.open_streams(requests)
    num_kept = num_accepted = 0
    for record in decoder.steps(requests, streams):
        num_kept += (record.kept.ranks == selector.limits.width).sum()
        for row, path in enumerate(record.verdict.path):
            num_accepted += (record.kept.ranks[row, path[path >= 0]] == selector.limits.width).sum()
    assert [text.token_ids for text in streams] == [text.token_ids for text in plain]
    assert num_kept > 0
    assert num_accepted > 0 or settings["temperature"] > 0


@pytest.mark.parametrize("settings", SETTINGS[::3], ids=str)
@pytest.mark.parametrize("scorer", ["random", "adversarial"])
@pytest.mark.parametrize("scheme", SAMPLED_SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_the_walk_through_sampled_trees_generates_the_plain_text_whatever_is_dropped(settings, scorer, scheme):
    requests = tiny.requests(3, **settings)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    selector = Selector(SCORERS[scorer](requests), LIMITS)
    trees, stats = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector, scheme).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_kept > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("scheme", SAMPLED_SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_the_walk_through_delayed_trees_generates_the_plain_text(settings, scheme):
    requests = tiny.requests(3, **settings)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    shape = sampled_shape(scheme, 3, *((3, 0) if scheme == HYBRID else (1, 2)))
    trees, stats = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), shape, scheme).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_accepted > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("scorer", ["confidence", "learned"])
def test_the_choice_rule_generates_the_plain_text(settings, batch, scorer):
    requests = tiny.requests(batch, **settings)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    selector = Selector(SCORERS[scorer](requests), LIMITS, objective=Objective(plans.TABLE))
    trees, stats = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_kept > 0


class PacedSelector(Selector):
    """Its own clock says that every step takes as long, although the table differs; later, that drafting is slow."""

    ticks = 0
    drafting = 0.0

    def clock(self):  # asked when a step begins and when it ends
        self.ticks += 1
        return 0.08 * self.ticks + self.drafting

    def begin(self, context):
        self.drafting += 0.8 * (self.ticks > 50)
        return super().begin(context)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_guard_that_switches_within_the_text_generates_the_plain_text(settings, batch):
    requests = tiny.requests(batch, **settings, max_tokens=90)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    selector = PacedSelector(ConfidenceScorer(), LIMITS)
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Guard(selector, plans.TABLE, clock=selector.clock))
    streams = decoder.open_streams(requests)
    drafted = [bool(record.level_widths) for record in decoder.steps(requests, streams)]
    assert [text.token_ids for text in streams] == [text.token_ids for text in plain]
    assert np.count_nonzero(np.diff(drafted)) >= 3  # drafting, plain, drafting, plain


@pytest.mark.parametrize("key", plans.grids(), ids="/".join)
def test_every_plan_generates_the_plain_text(key):
    requests = tiny.requests(3, 0.8, max_tokens=10)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    plain, _ = tiny.decoder(target).generate(requests)
    num_kept = 0
    for plan in plans.grids()[key]:
        trees, stats = tiny.decoder(target, drafter, plan.build(), get_ranked_scheme(plan.scheme)).generate(requests)
        assert [text.token_ids for text in trees] == [text.token_ids for text in plain], plan.settings
        num_kept += stats.num_kept
    assert num_kept > 0


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_other_architectures_generate_the_plain_text(family):
    requests = tiny.requests(3, 0.9, top_p=0.95)
    target, drafter = tiny.model_of(family), tiny.model_of(family, seed=1)
    plain, _ = tiny.decoder(target).generate(requests)
    trees, stats = tiny.decoder(target, drafter, Selector(ConfidenceScorer(), LIMITS)).generate(requests)
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert stats.num_kept > 0


def test_plain_greedy_equals_transformers_generate():
    target = tiny.llama()
    model: Any = target.model  # transformers types `generate` for a protocol that its models lack
    for request in tiny.requests(4, 0.0):
        inputs = torch.tensor([request.prompt_ids])
        output = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=24, do_sample=False, pad_token_id=0
        )
        (stream,), _ = tiny.decoder(target).generate([request])
        assert stream.token_ids == output[0, len(request.prompt_ids) :].tolist()


def test_a_text_does_not_depend_on_its_batch():
    requests = tiny.requests(4, 0.9, top_p=0.9)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    selector = Selector(ConfidenceScorer(), LIMITS)
    together, _ = tiny.decoder(target, drafter, selector).generate(requests)
    for request, stream in zip(requests, together, strict=True):
        (alone,), _ = tiny.decoder(target, drafter, selector).generate([request])
        assert stream.token_ids == alone.token_ids


def test_a_drafter_equal_to_the_target_is_always_accepted():
    requests = tiny.requests(2, 1.0)
    selector = Selector(ConfidenceScorer(), TreeLimits(max_depth=3, width=1, frontier=1, budget=3))
    _, stats = tiny.decoder(tiny.llama(), tiny.llama(), selector).generate(requests)
    assert stats.num_tokens == 48
    assert stats.num_steps == 12  # 24 tokens in blocks of 4, for two requests


def test_coupling_accepts_more_than_fixed_candidates_at_equal_budget():
    requests = tiny.requests(4, 1.0, max_tokens=100)
    selector = Selector(ConfidenceScorer(), LIMITS)
    efficiency = {}
    for scheme in (COUPLED, FIXED):
        decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), selector, scheme)
        efficiency[scheme] = decoder.generate(requests)[1].block_efficiency
    assert efficiency[COUPLED] > efficiency[FIXED]
