"""Chains of a learned length inside transformers' own assisted generation."""

import guests
import plans
import pytest
import tiny
import torch
from guests import PROMPT, generate
from treewright import InputError, assistant_with
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.objective import Objective
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.adapters.generate.assistant import ChainAssistant

LIMITS = TreeLimits(max_depth=5, width=1, frontier=1, budget=5)


def chains(selector=None):
    return ChainAssistant(guests.drafter(), selector or Selector(ConfidenceScorer(), LIMITS))


def priced():
    """Drafts another token while it pays by a table."""
    return Selector(ConfidenceScorer(), LIMITS, objective=Objective(plans.TABLE))


def scored(helper, **options):
    """Draft behind `PROMPT` as assisted generation asks."""
    config = guests.target().generation_config
    options = {"do_sample": True} | options
    return helper.generate(PROMPT, max_new_tokens=5, generation_config=type(config)(**options))


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"eos_token_id": [7, 21]}], ids=str)
def test_a_greedy_text_is_that_of_generate_and_the_next_prompt_begins_anew(options):
    helper = chains(priced())
    for ids in (PROMPT, PROMPT[:, :3], PROMPT.flip(1)):
        assert torch.equal(generate(ids, assistant_model=helper, **options), generate(ids, **options))


def test_long_texts_outgrow_the_first_cache():
    assert torch.equal(generate(assistant_model=chains(), max_new_tokens=245), generate(max_new_tokens=245))


def test_the_drafter_keeps_its_attention_and_its_configuration():
    guests.drafter().set_attn_implementation("sdpa")
    generate(assistant_model=chains(), do_sample=True)
    assert guests.drafter().config._attn_implementation == "sdpa"
    assert guests.drafter().generation_config.num_assistant_tokens is None


def test_a_token_comes_with_the_row_it_was_drawn_from():
    torch.manual_seed(0)
    drawn = scored(chains(), temperature=0.8)
    assert drawn.sequences.shape[1] == PROMPT.shape[1] + 5 == PROMPT.shape[1] + len(drawn.scores)
    with torch.no_grad():
        rows = guests.drafter()(drawn.sequences).logits[0, PROMPT.shape[1] - 1 : -1]
    torch.testing.assert_close(torch.cat(drawn.scores), rows, rtol=0, atol=1e-9)


def test_whether_to_go_on_does_not_depend_on_the_token_that_was_drawn():
    lengths, firsts = set(), set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = scored(chains(priced()))
        lengths.add(len(drawn.scores) > 1)
        firsts.add(int(drawn.sequences[0, PROMPT.shape[1]]))
    assert len(firsts) > 5
    assert len(lengths) == 1


def test_chains_are_as_long_as_the_selector_says():
    cheap = Selector(ConfidenceScorer(), LIMITS, objective=Objective(plans.TABLE, theta=1e-9))
    dear = Selector(ConfidenceScorer(), LIMITS, objective=Objective(plans.TABLE, theta=1e9))
    assert len(scored(chains(cheap)).scores) == 5
    assert len(scored(chains(dear)).scores) == 1  # the loop asks for one at least


def test_padding_and_a_missing_table_are_refused():
    with pytest.raises(InputError, match="leave padding out"):
        generate(assistant_model=chains(), attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]))
    with pytest.raises(InputError, match="no latency table for the two models"):
        assistant_with(guests.drafter(), "reference", target=guests.target())


@pytest.mark.slow
def test_sampled_texts_have_the_targets_distribution():
    num_texts, helper = 3000, chains(priced())
    torch.manual_seed(0)
    texts = [generate(assistant_model=helper, do_sample=True, top_k=0, max_new_tokens=3) for _ in range(num_texts)]
    pairs = torch.cat(texts)[:, PROMPT.shape[1] : PROMPT.shape[1] + 2]
    counts = torch.zeros(tiny.VOCABULARY_SIZE, tiny.VOCABULARY_SIZE).index_put_(
        (pairs[:, 0], pairs[:, 1]), torch.ones(()), accumulate=True
    )
    with torch.no_grad():
        first = guests.target()(PROMPT).logits[0, -1].softmax(dim=-1)
        following = torch.cat((PROMPT.expand(tiny.VOCABULARY_SIZE, -1), torch.arange(tiny.VOCABULARY_SIZE)[:, None]), 1)
        expected = num_texts * first[:, None] * guests.target()(following).logits[:, -1].softmax(dim=-1)
    often = expected >= 20
    observed = torch.cat((counts[often], (num_texts - counts[often].sum())[None]))
    wanted = torch.cat((expected[often], (num_texts - expected[often].sum())[None]))
    statistic = ((observed - wanted).square() / wanted).sum()
    assert statistic < len(wanted) + 4 * (2 * len(wanted)) ** 0.5
