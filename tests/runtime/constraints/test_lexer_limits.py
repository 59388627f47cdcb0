"""Where llguidance's lexer comes to its limit, no mask is wrong: the texts that share it fail, and no others."""

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


def mask_of(compiled):
    return GrammarMask(compiled, {END})


def banned(mask, text, path):
    """[40] of a row of zeros."""
    rows = mask(text, np.array([path], dtype=np.int64).reshape(1, -1), torch.zeros(1, 40), of_target=True)
    return rows[0].tolist()


def steps(seed):
    """A text as it grows and, at each step, paths that a tree might hold."""
    generator = np.random.default_rng(seed)
    text = generator.choice([A, B], 100).tolist()
    return [(text[:length], generator.choice([A, B], (3, 4)).tolist()) for length in range(100)]


def failure(follow, seed):
    """What ends a text."""
    for text, paths in steps(seed):
        try:
            follow(text, ())
        except InputError as error:
            return str(error)
        for path in paths:
            follow(text, path)
    raise AssertionError("the lexer has not come to its limit")


@pytest.mark.parametrize("seed", range(3))
def test_every_mask_within_reach_is_right_until_the_text_fails(seed):
    limited, free, lengths = mask_of(grammar(FEW_STATES)), mask_of(grammar()), []

    def compare(text, path):
        lengths.append((len(path), limited.reach(text, path)))
        for length in range(lengths[-1][1] + 1):
            assert banned(limited, text, path[:length]) == banned(free, text, path[:length])

    assert failure(compare, seed).startswith("regex has come to a dead end (lexer error: too many states")
    assert any(reached < length for length, reached in lengths)


def test_texts_that_share_the_lexer_fail_with_it_and_those_of_another_do_not():
    shared = grammar(FEW_STATES)
    second, other = mask_of(shared), mask_of(grammar(FEW_STATES))
    failure(mask_of(shared).reach, 0)
    for text in ([], [A, B]):
        with pytest.raises(InputError, match="too many states"):
            second.reach(text, ())
        assert other.reach(text, [A, A, B]) == 3
