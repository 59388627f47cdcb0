"""Unsound combinations are refused with a reason and a way out."""

import pytest
import tiny
from treewright.controller.contract import (
    COUPLED,
    FIXED,
    GREEDY_PLUS_ONE,
    HYBRID,
    IID_PATHS,
    LAWS,
    SAMPLED_LAWS,
    VERIFIERS,
    WALK,
    WITHOUT_REPLACEMENT,
    LawTerms,
    Looks,
    VerifierTerms,
    require_sound,
    unsound_reason,
)
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.selector import Selector, TreeLimits
from treewright.runtime.decode import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

SAMPLED = LawTerms("sampled", sampled=True)
RATIO = VerifierTerms("ratio", laws=frozenset({"sampled"}), tolerates=Looks.ADAPTED)


@pytest.mark.parametrize("law", [COUPLED, FIXED], ids=lambda law: law.name)
@pytest.mark.parametrize("looks", Looks)
def test_the_walk_is_sound_for_both_laws_whatever_a_decision_looks_at(law, looks):
    assert unsound_reason(law, looks, WALK) is None


def test_a_ratio_verifier_refuses_fixed_candidates_and_names_the_walk():
    assert unsound_reason(FIXED, Looks.PREDICTABLE, RATIO) == (
        "verifier 'ratio' is not lossless for tokens drafted under the 'fixed' law; use verifier 'walk' instead"
    )


def test_a_ratio_verifier_refuses_decisions_about_a_token_that_look_at_it():
    assert unsound_reason(SAMPLED, Looks.ADAPTED, RATIO) is None
    reason = unsound_reason(SAMPLED, Looks.ANYTHING, RATIO)
    assert reason is not None
    assert "looks at anything; use the 'coupled' law with verifier 'walk'" in reason


def test_an_alternative_is_only_offered_where_it_is_sound():
    predictable = VerifierTerms("list", laws=frozenset({"sampled"}), tolerates=Looks.PREDICTABLE)
    reason = unsound_reason(SAMPLED, Looks.ADAPTED, predictable, known=(WALK, predictable, RATIO))
    assert reason is not None
    assert reason.endswith("use verifier 'ratio' instead")


def test_a_decoder_refuses_an_unsound_triple_when_it_is_built():
    class RatioVerifier(WalkVerifier):
        terms = RATIO

    selector = Selector(ConfidenceScorer(), TreeLimits())
    drafter = LanguageModelDrafter(tiny.llama(), COUPLED)
    with pytest.raises(ValueError, match="use verifier 'walk' instead"):
        Decoder(
            Target(tiny.llama()), RatioVerifier(), tiny.tokenizer(), frozenset(), drafter=drafter, selector=selector
        )


def test_a_sound_triple_passes():
    require_sound(COUPLED, Looks.ANYTHING, WALK)


# Lossless verification under each law, by what decisions look at; proved in tests/runtime/exactness.
SEQUENTIAL = {"traversal", "specinfer", "rrsw", "spectr-fixed", "naive-tree", "block", "naive"}
WITH_REPLACEMENT_ONLY = {"specinfer", "spectr-fixed"}
HYBRIDS = {"hybrid-traversal", "hybrid-block", "hybrid-naive"}
TABLE = {
    (COUPLED, Looks.PREDICTABLE): set(),
    (FIXED, Looks.PREDICTABLE): set(),
    (IID_PATHS, Looks.PREDICTABLE): SEQUENTIAL | {"spectr", "khisti", "traversal-unmerged"},
    (IID_PATHS, Looks.ADAPTED): SEQUENTIAL,
    (WITHOUT_REPLACEMENT, Looks.PREDICTABLE): SEQUENTIAL - WITH_REPLACEMENT_ONLY,
    (WITHOUT_REPLACEMENT, Looks.ADAPTED): SEQUENTIAL - WITH_REPLACEMENT_ONLY,
    (GREEDY_PLUS_ONE, Looks.PREDICTABLE): {"greedy-plus-one"},
    (HYBRID, Looks.PREDICTABLE): HYBRIDS,
    (HYBRID, Looks.ADAPTED): HYBRIDS,
}


@pytest.mark.parametrize("looks", Looks)
@pytest.mark.parametrize("law", (LAWS | SAMPLED_LAWS).values(), ids=lambda law: law.name)
def test_the_sound_verifiers_are_those_of_the_table(law, looks):
    sound = {name for name, terms in VERIFIERS.items() if unsound_reason(law, looks, terms) is None}
    assert sound == TABLE.get((law, looks), set()) | {"walk"}


def test_a_list_verifier_refuses_siblings_that_look_at_each_other_and_names_a_sequential_one():
    assert unsound_reason(IID_PATHS, Looks.ADAPTED, VERIFIERS["spectr"]) == (
        "verifier 'spectr' tolerates shape decisions that look at what was known before any sibling, "
        "but this shape policy looks at earlier siblings; use verifier 'traversal' instead"
    )


def test_only_the_walk_lets_a_decision_about_a_draw_look_at_it():
    for law in SAMPLED_LAWS.values():
        for name, terms in VERIFIERS.items():
            reason = unsound_reason(law, Looks.ANYTHING, terms)
            assert reason is None if name == "walk" else str(reason).endswith("use verifier 'walk' instead")


def test_whatever_a_refusal_names_is_sound():
    for law in (LAWS | SAMPLED_LAWS).values():
        for looks in Looks:
            for terms in VERIFIERS.values():
                reason = unsound_reason(law, looks, terms)
                if reason is not None:
                    require_sound(law, looks, VERIFIERS[reason.split("'")[-2]])
