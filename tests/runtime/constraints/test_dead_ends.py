"""A text that comes to a dead end of its grammar fails there, as in plain decoding, whatever was drafted behind it."""

from contextlib import suppress

import pytest
import tiny
from constrained import END, characters, constrainer, ids
from test_joint_distribution import CASES
from treewright.controller.contract import COUPLED, HYBRID, SAMPLED_SCHEMES
from treewright.controller.errors import InputError
from treewright.controller.plans.sampled_grids import CHAIN_VERIFIERS
from treewright.controller.policies.delayed import sampled_shape
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.constraints.grammars.mask import GrammarMask
from treewright.runtime.constraints.grammars.source import Grammar, GrammarKind
from treewright.runtime.constraints.settings import Constraints
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.target import Target
from treewright.runtime.verification import get_verifier

# Nothing is both terminals.
DEAD_BEHIND_D = 'start: /[a-c]/ start | "d" NONE\nNONE: /e/ & /f/'
DEAD = ids("d")[0]
LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)
NUM_TEXTS = 12


def mask_of(kind: GrammarKind, text: str) -> GrammarMask:
    compiled = constrainer()._grammars.compile(Grammar(kind, text))
    return GrammarMask(compiled, compiled, {END})


def decoder(verifier="walk", scheme="coupled", *, plain=False):
    drafter = selector = None
    if not plain:
        terms = COUPLED if verifier == "walk" else SAMPLED_SCHEMES[scheme]
        drafter = LanguageModelDrafter(tiny.llama(noise=0.02), terms)
        shape = (3, 2, 0) if terms == HYBRID else (1 if verifier in CHAIN_VERIFIERS else 3, 0, 3)
        selector = Selector(ConfidenceScorer(), LIMITS) if verifier == "walk" else sampled_shape(terms, *shape)
    of_text = tiny.detokeniser(characters())
    return Decoder(
        Target(tiny.llama()), get_verifier(verifier), of_text, frozenset({END}), drafter=drafter, selector=selector
    )


def outcomes(of, max_tokens):
    """Of each text, its tokens, its end and its error; the first follows no grammar."""
    constraints = Constraints(grammar=DEAD_BEHIND_D)
    free, *constrained = tiny.requests(NUM_TEXTS + 1, 0.9, max_tokens)
    requests = [free, *(constrainer().constrained(each, constraints) for each in constrained)]
    streams = of.open_streams(requests)
    with suppress(InputError):  # raised once the others have ended
        list(of.steps(requests, streams))
    errors = [None if stream.error is None else str(stream.error) for stream in streams]
    return [(each.token_ids, each.finish_reason, error) for each, error in zip(streams, errors, strict=True)]


def test_a_path_reaches_up_to_the_token_before_a_dead_end_and_through_an_end_token():
    mask = mask_of(GrammarKind.GRAMMAR, DEAD_BEHIND_D)
    assert mask.reach([], ids("abca")) == 4
    assert mask.reach(ids("ab"), ids("acdab")) == 2
    assert mask.reach(ids("ab"), ids("d")) == mask.reach([], ()) == 0
    assert mask_of(GrammarKind.REGEX, "ab?").reach([], [*ids("a"), END, *ids("b")]) == 2
    with pytest.raises(InputError, match=r"grammar has come to a dead end \(.*\); correct it"):
        mask.reach(ids("ad"), ())


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 6, 24])
def test_trees_come_to_the_ends_that_plain_decoding_comes_to(max_tokens):
    plain = outcomes(decoder(plain=True), max_tokens)
    assert outcomes(decoder(), max_tokens) == plain
    (_, _, error), *constrained = plain
    assert error is None
    assert [error is not None for *_, error in constrained] == [
        tokens[-1] == DEAD and len(tokens) < max_tokens for tokens, *_ in constrained
    ]
    assert any(error is not None for *_, error in constrained) == (max_tokens > 1)


def test_a_text_at_a_dead_end_leaves_the_others_together(caplog):
    """A step that fails is decoded again, each request alone; this is no failure of a step."""
    outcomes(decoder(), 24)
    assert not caplog.records


@pytest.mark.parametrize(("verifier", "scheme"), CASES)
def test_no_verifier_takes_a_text_past_a_dead_end(verifier, scheme):
    texts = outcomes(decoder(verifier, scheme), 6)
    for tokens, end, error in texts[1:]:
        assert DEAD not in tokens[:-1]
        assert (error is not None) == (tokens[-1] == DEAD and len(tokens) < 6) == (end is None)
    assert sum(error is not None for *_, error in texts) > 3
