"""Labels agree with what decoding saw."""

import numpy as np
import pytest
import tiny
import traces
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.memory import MemoryConfig
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.request import Request

TARGET, DRAFTER = tiny.llama(), tiny.llama(noise=0.02)
MEMORY = MemoryConfig(window=12, entries=6, beta=6.0, mass=0.2)


def generated(temperature, max_tokens=40, **sampling):
    (request,) = tiny.requests(1, temperature, max_tokens, **sampling)
    (stream,), _ = tiny.decoder(TARGET).generate([request])
    return request, stream.token_ids


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_teacher_forced_pass_draws_the_text_again(temperature):
    request, tokens = generated(temperature)
    text, rows = traces.rows_of(request, tokens, "doc", TARGET, DRAFTER)
    assert text.num_ties == 0
    assert [row.emitted for row in rows] == tokens


@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 0.9, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("memory", [None, MEMORY], ids=["no memory", "memory"])
def test_candidates_are_the_children_the_drafter_appends_there(scheme, settings, memory):
    """A one-level tree per step drafts at every position what the labels say."""
    request, tokens = generated(**settings)
    _, rows = traces.rows_of(request, tokens, "doc", TARGET, DRAFTER, scheme, memory=memory)
    selector = Selector(ConfidenceScorer(), TreeLimits(1, traces.WIDTH, frontier=1, budget=0, ngrams=True))
    decoder = tiny.decoder(TARGET, DRAFTER, selector, scheme, memory=memory)
    request = Request(request.prompt_ids, request.max_tokens, request.sampling)
    drafted = [record.drafted for record in decoder.steps([request], decoder.open_streams([request]))]
    for row, tree in zip(rows[:-1], drafted[:-1], strict=True):  # no draft before the last token
        count = int(tree.num_nodes[0])
        assert [token for token in row.candidates if token >= 0] == tree.tokens[0, 1:count].tolist()
        np.testing.assert_allclose(row.candidate_log_probs[: count - 1], tree.log_probs[0, 1:count], atol=1e-5)
        noisy = tree.noisy_log_probs[0, 1:count]
        np.testing.assert_allclose(row.candidate_noisy_log_probs[: count - 1], noisy, atol=1e-5)
        ngrams = tree.ngram_log_probs[0, 1:count]
        np.testing.assert_allclose(row.candidate_ngram_log_probs[: count - 1], ngrams, atol=1e-6)
        np.testing.assert_allclose(row.ngram_top_log_prob, tree.ngram_top_log_probs[0, 1], atol=1e-6)
        np.testing.assert_allclose(row.draft_entropy, tree.entropies[0, 1], atol=1e-5)
        np.testing.assert_allclose(row.draft_top_log_prob, tree.top_log_probs[0, 1], atol=1e-5)


def test_the_rank_says_which_candidate_the_text_took():
    request, tokens = generated(0.8)
    _, rows = traces.rows_of(request, tokens, "doc", TARGET, DRAFTER)
    for row in rows:
        if row.coupled_rank >= 0:
            assert row.candidates[row.coupled_rank] == row.emitted
        else:
            assert row.emitted not in row.candidates


def test_a_drafter_equal_to_the_target_has_overlap_one_and_rank_zero():
    request, tokens = generated(0.8)
    _, rows = traces.rows_of(request, tokens, "doc", TARGET, TARGET)
    assert all(row.coupled_rank == 0 for row in rows)
    np.testing.assert_allclose([row.overlap for row in rows], 1.0, atol=1e-12)


def test_a_child_that_is_never_drafted_matches_no_token():
    """Where the n-grams expect nothing, their column holds no token, not token 0."""
    request, tokens = generated(1.5, max_tokens=200)
    _, fixed = traces.rows_of(request, tokens, "doc", TARGET, DRAFTER, FIXED)
    beyond = [row for row in fixed if row.emitted == 0 and 0 not in row.candidates and -1 in row.candidates]
    assert beyond
    assert {row.fixed_rank for row in beyond} == {-1}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_either_scheme_records_the_ranks_under_both(temperature):
    request, tokens = generated(temperature)
    coupled, fixed = (
        traces.rows_of(request, tokens, "doc", TARGET, DRAFTER, scheme, draws=3)[1] for scheme in (COUPLED, FIXED)
    )
    ranks = [(row.coupled_rank, row.fixed_rank) for row in coupled]
    assert ranks == [(row.coupled_rank, row.fixed_rank) for row in fixed]
    assert all(here == there for here, there in ranks) == (temperature == 0)
