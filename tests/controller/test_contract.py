"""Unsound combinations are refused with a reason and a way out."""

import pytest
import tiny
from treewright.controller.contract import (
    COUPLED,
    FIXED,
    WALK,
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
