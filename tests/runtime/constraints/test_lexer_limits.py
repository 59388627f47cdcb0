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


def length_at_failure(mask, seed, num_ahead=0):
    """Of the text, where it ends for want of states; a step takes what it may of the next `num_ahead` tokens, and one
    more."""
    text, paths = steps(seed)[-1][0], [each for _, each in steps(seed)]
    length = 0
    while length + num_ahead < len(text):
        try:
            banned(mask, text[:length], [])
        except InputError:
            return length
        for path in paths[length] if num_ahead else ():
            banned(mask, text[:length], path)
        length += mask.reach(text[:length], text[length : length + num_ahead]) + 1
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
    lengths = [
        length_at_failure(GrammarMask(grammar(most), grammar(10 * most), {END}), seed, num_ahead)
        for num_ahead in (0, 1, 4)
        for most in (FEW_STATES // 4, FEW_STATES // 3)
    ]
    assert None not in lengths and lengths[:2] * 3 == lengths


def test_texts_of_one_request_share_their_lexer_and_those_of_others_do_not():
    first, second, other = (
        GrammarMask(each, each, {END}) for each in [grammar(FEW_STATES)] * 2 + [grammar(FEW_STATES)]
    )
    assert length_at_failure(first, 0) is not None
    for text in ([], [A, B]):
        with pytest.raises(InputError, match="too many states"):
            second.reach(text, ())
        assert other.reach(text, [A, A, B]) == 3
