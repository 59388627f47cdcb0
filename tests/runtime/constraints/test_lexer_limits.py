"""Where llguidance's lexer comes to its limit, no mask is wrong, and a text fails where it does without trees."""

import numpy as np
import pytest
import torch
from constrained import END, characters, ids
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from treewright.controller.errors import InputError
from treewright.runtime.constraints.grammars.compiled import CompiledGrammar
from treewright.runtime.constraints.grammars.mask import GrammarMask
from treewright.runtime.constraints.grammars.source import GrammarKind

A, B = ids("ab")
# The lexer has to remember where each `a` was, so almost every text brings it to new states.
REGEX = "(.*a.{30}b.*){3}[ab]{0,300}"
FEW_STATES = 300


def grammar(most_states=250_000):
    tokenizer = LLTokenizer(characters().to_str(), eos_token=[END])
    regex = LLMatcher.grammar_from_regex(REGEX)
    limits = LLParserLimits(max_lexer_states=most_states)
    return CompiledGrammar(GrammarKind.REGEX, LLMatcher(tokenizer, regex, log_level=0, limits=limits))


def banned(mask, text, path):
    """[40] of a row of zeros."""
    rows = mask(text, np.array([path], dtype=np.int64).reshape(1, -1), torch.zeros(1, 40), of_target=True)
    return rows[0].tolist()


def steps(seed):
    """A text as it grows and, at each step, paths that a tree might hold."""
    generator = np.random.default_rng(seed)
    text = generator.choice([A, B], 100).tolist()
    return [(text[:length], generator.choice([A, B], (3, 4)).tolist()) for length in range(100)]


def length_at_failure(mask, seed, *, looks_ahead=True):
    """Of the text, where it ends for want of states."""
    for text, paths in steps(seed):
        try:
            mask.reach(text, ())
        except InputError:
            return len(text)
        for path in paths if looks_ahead else ():
            mask.reach(text, path)
    return None


@pytest.mark.parametrize("seed", range(3))
def test_masks_within_reach_are_right_and_the_text_goes_on_where_paths_come_to_the_limit(seed):
    limited, free = GrammarMask(grammar(), grammar(FEW_STATES), {END}), GrammarMask(grammar(), grammar(), {END})
    reaches = []
    for text, paths in steps(seed):
        for path in paths:
            reaches.append(limited.reach(text, path))
            for length in range(reaches[-1] + 1):
                assert banned(limited, text, path[:length]) == banned(free, text, path[:length])
    assert {0, 4} <= {*reaches}


@pytest.mark.parametrize("seed", range(3))
def test_a_text_fails_where_it_does_without_trees(seed):
    plain, trees = (GrammarMask(grammar(FEW_STATES // 4), grammar(FEW_STATES // 4), {END}) for _ in range(2))
    length = length_at_failure(plain, seed, looks_ahead=False)
    assert length is not None and length_at_failure(trees, seed) == length


def test_texts_of_one_request_share_their_lexer_and_those_of_others_do_not():
    first, second, other = (
        GrammarMask(each, each, {END}) for each in [grammar(FEW_STATES)] * 2 + [grammar(FEW_STATES)]
    )
    assert length_at_failure(first, 0) is not None
    for text in ([], [A, B]):
        with pytest.raises(InputError, match="too many states"):
            second.reach(text, ())
        assert other.reach(text, [A, A, B]) == 3
