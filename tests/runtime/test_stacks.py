"""Stacks of drafters: the text stays plain, and fewer forwards draft what the drafter alone would draft."""

from dataclasses import replace

import numpy as np
import plans
import pytest
import tiny
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.policies.eagle2 import eagle2
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.objective import Objective
from treewright.controller.pricing.stacks import stacked_table
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.drafters.ngrams.datastore import Datastore
from treewright.runtime.drafters.ngrams.slots import SlotNgrams
from treewright.runtime.drafters.stacks.model import ModelStage
from treewright.runtime.drafters.stacks.ngrams import NgramStage
from treewright.runtime.drafters.stacks.stacked import StackedDrafter
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling, TokenSampler

LIMITS = TreeLimits(max_depth=5, width=2, frontier=3, budget=9, ngrams=True)
SETTINGS = [{"temperature": 0.0}, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 1.2}]


def model_stage(scheme):
    return ModelStage(LanguageModelDrafter(tiny.llama(noise=0.05), scheme), 3)


DATASTORE = Datastore.of([list(range(tiny.VOCABULARY_SIZE)) * 3])
STAGES = {
    "ngrams": lambda scheme, texts: NgramStage(4, 1e-4, texts),
    "datastore": lambda scheme, texts: NgramStage(4, 1e-4, texts),
    "model": lambda scheme, texts: model_stage(scheme),
}
POLICIES = {
    "confidence": lambda: replace(eagle2(LIMITS), all_depths=True),
    "choice rule": lambda: Selector(ConfidenceScorer(), LIMITS, objective=Objective(plans.TABLE), all_depths=True),
}


def stacked(stage, selector, scheme=COUPLED, noise=0.02):
    """Above the stage of this name."""
    texts = SlotNgrams(DATASTORE if stage == "datastore" else None)
    model, below, limits = tiny.llama(noise=noise), STAGES[stage](scheme, texts), selector.limits
    return StackedDrafter(model, scheme, below, limits.max_depth, texts=texts, drafts_ngrams=limits.ngrams)


def records_of(decoder, requests):
    streams = decoder.open_streams(requests)
    return [*decoder.steps(requests, streams)], [stream.token_ids for stream in streams]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("policy", "scheme"), [("confidence", COUPLED), ("choice rule", COUPLED), ("choice rule", FIXED)], ids=str
)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stack_generates_the_plain_text(settings, batch, policy, scheme, stage):
    requests = tiny.requests(batch, **settings)
    plain, _ = tiny.decoder(tiny.llama()).generate(requests)
    selector = POLICIES[policy]()
    decoder = tiny.decoder(tiny.llama(), stacked(stage, selector, scheme), selector)
    streams, stats = decoder.generate(requests)
    assert [text.token_ids for text in streams] == [text.token_ids for text in plain]
    assert stats.num_accepted > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
def test_a_stack_drafts_the_drafters_own_chain_in_fewer_forwards(settings, stage, scheme):
    requests = tiny.requests(1, **settings, max_tokens=40)
    limits = TreeLimits(max_depth=5, width=1, frontier=1, budget=5)
    alone, _ = records_of(tiny.decoder(tiny.llama(), tiny.llama(noise=0.05), eagle2(limits), scheme), requests)
    selector = replace(eagle2(limits), all_depths=True)
    drafter = stacked(stage, selector, scheme, noise=0.05)
    records, _ = records_of(tiny.decoder(tiny.llama(), drafter, selector), requests)
    for record, other in zip(records, alone, strict=True):
        assert record.kept.tokens.tolist() == other.kept.tokens.tolist()
        np.testing.assert_allclose(record.kept.log_probs, other.kept.log_probs, atol=1e-6)
        assert len(record.level_widths) <= len(other.level_widths)
    if stage == "model":  # the same model: nothing it guesses is dropped
        assert sum(len(record.level_widths) for record in records) <= 0.5 * sum(len(r.level_widths) for r in alone)


def test_what_the_text_did_before_is_read_in_one_forward():
    """Behind 7, 8 came 5, 6, 4: all of it is read with the root."""
    model = tiny.llama()
    texts = SlotNgrams()
    drafter = StackedDrafter(model, FIXED, NgramStage(3, 1e-4, texts), max_depth=4, texts=texts, drafts_ngrams=True)
    drafter.open()
    drafter.join(np.array([7, 8, 5, 6, 4, 7, 8]), 100)
    sampler = TokenSampler([Sampling(0.8)], tiny.VOCABULARY_SIZE, model.device)
    tree = drafter.expand(DraftTree.from_roots(np.array([8])), np.array([[0]]), 2, sampler)
    assert drafter.num_ahead == 3
    path = [0]
    for token in (5, 6, 4):
        (child,) = np.nonzero((tree.parents[0] == path[-1]) & (tree.tokens[0] == token))
        path.append(int(child.item()))
    assert (tree.parents[0][:, None] == path).sum(axis=0).tolist() == [3, 3, 3, 3]  # two candidates and the n-grams'
    alone = LanguageModelDrafter(tiny.llama(), FIXED, ngrams=True)
    alone.open()
    alone.join(np.array([7, 8, 5, 6, 4, 7, 8]), 100)
    level = alone.expand(DraftTree.from_roots(np.array([8])), np.array([[0]]), 2, sampler)
    for token in (5, 6, 4):
        below = int(np.nonzero((level.depths[0] == level.deepest) & (level.tokens[0] == token))[0].item())
        level = alone.expand(level, np.array([[below]]), 2, sampler)
    assert sorted(tree.tokens[0].tolist()) == sorted(level.tokens[0].tolist())
    np.testing.assert_allclose(np.sort(tree.path_log_probs[0]), np.sort(level.path_log_probs[0]), atol=1e-6)


def test_guesses_end_where_they_are_unlikely_at_the_depth_allowed_and_where_nothing_is_known():
    def num_guessed(text, least=1e-4, deepest=9):
        texts = SlotNgrams()
        stage = NgramStage(6, least, texts)
        texts.join(np.array(text))
        roots = DraftTree.from_roots(np.array(text[-1:]))
        sampler = TokenSampler([Sampling(0.8)], tiny.VOCABULARY_SIZE, tiny.llama().device)
        return int(stage.guess(roots, np.array([[0]]), np.array([deepest]), sampler).num_nodes.item()) - 1

    assert num_guessed([1, 2, 3, 4, 5, 6, 7, 8, 1, 2]) == 6
    assert num_guessed([1, 2, 3, 4, 5, 6, 7, 8, 1, 2], deepest=2) == 2
    assert 0 < num_guessed([1, 2, 3, 4, 5, 6, 7, 8, 1, 2], least=0.5) < 6
    assert num_guessed([1, 2, 3]) == 0


def test_a_stage_costs_the_sum_of_the_forwards_that_it_runs():
    table = stacked_table(plans.TABLE, plans.TABLE, 3)
    size = {"batch": 1, "context": 1}
    below = plans.TABLE.levels_ms([1, 1, 1], **size)
    assert table.levels_ms([1], **size) == plans.TABLE.levels_ms([1], **size) + below
    assert table.levels_ms([1, 4], **size) == pytest.approx(plans.TABLE.levels_ms([1, 4], **size) + below)
    # What is read with the root costs what a wider level does.
    wide, narrow = (plans.TABLE.draft_costs(4, level=1, **size)[width] for width in (4, 1))
    assert plans.TABLE.levels_ms([4], **size) == pytest.approx(plans.TABLE.levels_ms([1], **size) + wide - narrow)


@pytest.mark.parametrize("stage", ["ngrams", "model"])
def test_long_prompts_are_read_ahead_of_the_guesses_and_texts_may_join_and_end(stage):
    """Beside others a long prompt is read a chunk per step; the last request joins when another has ended."""
    lengths = (300, 40, 20)
    requests = [
        Request(np.random.default_rng(seed).integers(tiny.VOCABULARY_SIZE, size=size).tolist(), 6 + seed, Sampling(0.5))
        for seed, size in enumerate(lengths)
    ]
    target = tiny.llama(positions=512)
    plain, _ = tiny.decoder(target).generate(requests)
    selector = replace(eagle2(LIMITS), all_depths=True)
    texts = SlotNgrams()
    guesses = {
        "ngrams": lambda: NgramStage(3, 1e-4, texts),
        "model": lambda: ModelStage(LanguageModelDrafter(tiny.llama(noise=0.05, positions=512), COUPLED), 3),
    }[stage]()
    model = tiny.llama(noise=0.02, positions=512)
    drafter = StackedDrafter(model, COUPLED, guesses, LIMITS.max_depth, texts=texts, drafts_ngrams=True)
    decoder = tiny.decoder(target, drafter, selector)
    streams = decoder.open_streams(requests)
    records = [*decoder.steps(requests, streams, max_batch=2)]
    assert [stream.token_ids for stream in streams] == [stream.token_ids for stream in plain]
    assert any(record.level_widths for record in records)


def test_nothing_is_guessed_beyond_the_last_position_of_the_drafter(monkeypatch):
    """The prompt repeats itself, and the text ends where the context does."""
    target = tiny.llama(positions=32)
    requests = [Request([1, 2, 3, 4] * 5, 12, Sampling(0.0))]
    plain, _ = tiny.decoder(target).generate(requests)
    selector = replace(eagle2(LIMITS), all_depths=True)
    model = tiny.llama(noise=0.02, positions=32)
    positions = []
    forward = model.forward

    def watched(tokens, places, *arguments, **options):
        positions.append(int(places.max()))
        return forward(tokens, places, *arguments, **options)

    monkeypatch.setattr(model, "forward", watched)
    texts = SlotNgrams()
    stage = NgramStage(6, 1e-6, texts)
    drafter = StackedDrafter(model, COUPLED, stage, LIMITS.max_depth, texts=texts, drafts_ngrams=True)
    streams, _ = tiny.decoder(target, drafter, selector).generate(requests)
    assert streams[0].token_ids == plain[0].token_ids
    assert max(positions) < 32
