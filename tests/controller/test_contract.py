"""Unsound combinations are refused with a reason and a way out."""

import pytest
import tiny
from treewright.controller.contract import (
    COUPLED,
    FIXED,
    GREEDY_PLUS_ONE,
    HYBRID,
    IID_PATHS,
    RANKED_SCHEMES,
    SAMPLED_SCHEMES,
    VERIFIERS,
    WALK,
    WITHOUT_REPLACEMENT,
    Information,
    Scheme,
    VerifierTerms,
    require_sound,
    unsound_reason,
)
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

SAMPLED = Scheme("sampled", sampled=True)
RATIO = VerifierTerms("ratio", schemes=("sampled",), tolerates=Information.ADAPTED)


@pytest.mark.parametrize("scheme", [COUPLED, FIXED], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("information", Information)
def test_the_walk_is_sound_for_both_schemes_whatever_a_decision_uses(scheme, information):
    assert unsound_reason(scheme, information, WALK) is None


def test_a_ratio_verifier_refuses_fixed_candidates_and_names_the_walk():
    assert unsound_reason(FIXED, Information.PREDICTABLE, RATIO) == (
        "verifier 'ratio' is not lossless for tokens drafted under the 'fixed' scheme; use verifier 'walk' instead"
    )


def test_a_ratio_verifier_refuses_decisions_about_a_token_that_look_at_it():
    assert unsound_reason(SAMPLED, Information.ADAPTED, RATIO) is None
    reason = unsound_reason(SAMPLED, Information.ANYTHING, RATIO)
    assert reason is not None
    assert "uses anything; use the 'coupled' scheme with verifier 'walk'" in reason


def test_an_alternative_is_only_offered_where_it_is_sound():
    predictable = VerifierTerms("list", schemes=("sampled",), tolerates=Information.PREDICTABLE)
    reason = unsound_reason(SAMPLED, Information.ADAPTED, predictable, known=(WALK, predictable, RATIO))
    assert reason is not None
    assert reason.endswith("use verifier 'ratio' instead")


def test_a_decoder_refuses_an_unsound_triple_when_it_is_built():
    class RatioVerifier(WalkVerifier):
        terms = RATIO

    selector = Selector(ConfidenceScorer(), TreeLimits())
    drafter = LanguageModelDrafter(tiny.llama(), COUPLED)
    with pytest.raises(ValueError, match="use verifier 'walk' instead"):
        Decoder(
            Target(tiny.llama()), RatioVerifier(), tiny.detokeniser(), frozenset(), drafter=drafter, selector=selector
        )


def test_a_sound_triple_passes():
    require_sound(COUPLED, Information.ANYTHING, WALK)


# Lossless verification under each scheme, by what decisions use; proved in tests/runtime/exactness.
SEQUENTIAL = {"traversal", "specinfer", "rrsw", "spectr-fixed", "naive-tree", "block", "naive"}
WITH_REPLACEMENT_ONLY = {"specinfer", "spectr-fixed"}
HYBRIDS = {"hybrid-traversal", "hybrid-block", "hybrid-naive"}
TABLE = {
    (COUPLED, Information.PREDICTABLE): set(),
    (FIXED, Information.PREDICTABLE): set(),
    (IID_PATHS, Information.PREDICTABLE): SEQUENTIAL | {"spectr", "khisti", "traversal-unmerged"},
    (IID_PATHS, Information.ADAPTED): SEQUENTIAL,
    (WITHOUT_REPLACEMENT, Information.PREDICTABLE): SEQUENTIAL - WITH_REPLACEMENT_ONLY,
    (WITHOUT_REPLACEMENT, Information.ADAPTED): SEQUENTIAL - WITH_REPLACEMENT_ONLY,
    (GREEDY_PLUS_ONE, Information.PREDICTABLE): {"greedy-plus-one"},
    (HYBRID, Information.PREDICTABLE): HYBRIDS,
    (HYBRID, Information.ADAPTED): HYBRIDS,
}


@pytest.mark.parametrize("information", Information)
@pytest.mark.parametrize("scheme", (RANKED_SCHEMES | SAMPLED_SCHEMES).values(), ids=lambda scheme: scheme.name)
def test_the_sound_verifiers_are_those_of_the_table(scheme, information):
    sound = {name for name, terms in VERIFIERS.items() if unsound_reason(scheme, information, terms) is None}
    assert sound == TABLE.get((scheme, information), set()) | {"walk"}


def test_a_list_verifier_refuses_siblings_that_look_at_each_other_and_names_a_sequential_one():
    assert unsound_reason(IID_PATHS, Information.ADAPTED, VERIFIERS["spectr"]) == (
        "verifier 'spectr' allows shape decisions that use what was known before any sibling, "
        "but this shape policy uses earlier siblings; use verifier 'traversal' instead"
    )


def test_only_the_walk_lets_a_decision_about_a_draw_look_at_it():
    for scheme in SAMPLED_SCHEMES.values():
        for name, terms in VERIFIERS.items():
            reason = unsound_reason(scheme, Information.ANYTHING, terms)
            assert reason is None if name == "walk" else str(reason).endswith("use verifier 'walk' instead")


def test_whatever_a_refusal_names_is_sound():
    for scheme in (RANKED_SCHEMES | SAMPLED_SCHEMES).values():
        for information in Information:
            for terms in VERIFIERS.values():
                reason = unsound_reason(scheme, information, terms)
                if reason is not None:
                    require_sound(scheme, information, VERIFIERS[reason.split("'")[-2]])
