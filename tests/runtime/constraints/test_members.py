"""Every member of the family against its definition, for all nodes of a tree at once and in any order."""

from math import log

import constrained
import numpy as np
import pytest
import torch
from constrained import END, KINDS, compiled, constrainer, ids
from transformers.generation.logits_process import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor
from treewright.runtime.constraints.allowed import AllowedTokens
from treewright.runtime.constraints.bad_words import BadWords
from treewright.runtime.constraints.base import Chain
from treewright.runtime.constraints.frequency import FrequencyPenalty
from treewright.runtime.constraints.grammars.mask import GrammarMask
from treewright.runtime.constraints.logit_bias import LogitBias
from treewright.runtime.constraints.min_p import MinP
from treewright.runtime.constraints.min_tokens import MinTokens
from treewright.runtime.constraints.repetition import RepetitionPenalty

WIDTH = 48  # rows of a model whose vocabulary is padded
PROMPT = [3, 3, 20, 7]
WORDS = {(5,), (1, 2), (2, 2), (4, 1, 2)}
COMPILED = compiled("grammar")


def biased(text, row):
    return row + torch.tensor([{2: 1.5, 9: -100.0}.get(token, 0.0) for token in range(WIDTH)], dtype=row.dtype)


def repeated(text, row):
    return RepetitionPenaltyLogitsProcessor(1.3)(torch.LongTensor([PROMPT + text]), row[None].clone())[0]


def frequent(text, row):
    counts = [text.count(token) for token in range(WIDTH)]
    return row - torch.tensor([0.4 * count + 0.3 * (count > 0) for count in counts], dtype=row.dtype)


def without(row, tokens):
    return torch.stack([row[token] if token not in tokens else row.new_tensor(-torch.inf) for token in range(WIDTH)])


def allowed(text, row):
    return without(row, set(range(WIDTH)) - {0, 5, 11})


def long_enough(text, row):
    return without(row, {6, 31} if len(text) < 5 else ())


def without_bad_words(text, row):
    return without(row, {word[-1] for word in WORDS if text[len(text) - len(word) + 1 :] == [*word[:-1]]})


def likely(text, row):
    kept = MinPLogitsWarper(0.3)(torch.LongTensor([text]), row[None] / 0.7)[0]
    return without(row, set(torch.nonzero(kept == -torch.inf)[:, 0].tolist()))


def grammatical(text, row):
    """By a matcher that reads the whole text; a text that is none of the grammar's changes nothing."""
    matcher = COMPILED.root.deep_copy()
    if END in text or matcher.try_consume_tokens(text) < len(text):
        return row
    mask = matcher.compute_bitmask()
    return without(row, {token for token in range(WIDTH) if token >= 40 or not mask[token // 8] >> token % 8 & 1})


MEMBERS = {
    "allowed tokens": (lambda: AllowedTokens({11, 0, 5}), allowed),
    "bad words": (lambda: BadWords(WORDS), without_bad_words),
    "frequency and presence": (lambda: FrequencyPenalty(0.4, 0.3), frequent),
    "grammar": (lambda: GrammarMask(COMPILED, COMPILED, {END}), grammatical),
    "logit bias": (lambda: LogitBias({2: 1.5, 9: -100.0}), biased),
    "min_p": (lambda: MinP(0.3, 0.7), likely),
    "min_tokens": (lambda: MinTokens(5, {31, 6}), long_enough),
    "repetition": (lambda: RepetitionPenalty(1.3, PROMPT), repeated),
}


def asked(seed, *, follows_grammar):
    """Of a text that grows, and once of another one: its trees' paths, and logits behind them."""
    generator = np.random.default_rng(seed)
    text = ids("[[0,1],2,[") if follows_grammar else generator.integers(0, 7, 12).tolist()
    ways = [ids(way) for way in ("3", "3]", "[4", "3,[", "]", "a")]
    for length in (0, 3, 3, 7, len(text), 2):
        paths = np.full((8, 4), -1)
        for row in range(1, 8):
            path = (
                ways[generator.integers(len(ways))] if follows_grammar else generator.integers(0, 7, row % 5).tolist()
            )
            paths[row, : len(path)] = path
        yield text[:length], paths, torch.from_numpy(generator.normal(size=(8, WIDTH)) * 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MEMBERS)
def test_each_node_gets_what_the_definition_says_of_its_own_text(name, seed):
    make, definition = MEMBERS[name]
    member = make()
    for text, paths, logits in asked(seed, follows_grammar=name == "grammar"):
        expected = [
            definition([*text, *(token for token in path if token >= 0)], row)
            for path, row in zip(paths.tolist(), logits, strict=True)
        ]
        for of_target in (False, True):
            rows = member(text, paths, logits.clone(), of_target=of_target)
            assert rows.dtype == logits.dtype
            torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-12)


def test_a_chain_applies_its_members_in_their_order():
    logits = torch.zeros((1, WIDTH), dtype=torch.float64)
    paths = np.zeros((1, 0), dtype=np.int64)
    rows = Chain([LogitBias({3: 1.0}), RepetitionPenalty(2.0, [3])])([], paths, logits, of_target=True)
    assert rows[0, 3] == 0.5
    rows = Chain([RepetitionPenalty(2.0, [3]), LogitBias({3: 1.0})])([], paths, logits * 0, of_target=True)
    assert rows[0, 3] == 1.0


def test_min_p_cuts_by_probabilities_at_the_temperature():
    logits = torch.tensor([[0.0, 0.5 * log(0.3), 0.5 * log(0.2)]], dtype=torch.float64)
    rows = MinP(0.25, 0.5)([], np.zeros((1, 0), dtype=np.int64), logits, of_target=True)
    assert rows.isfinite().tolist() == [[True, True, False]]


def test_a_member_is_made_for_what_is_asked_alone():
    of = constrainer()
    request = of.constrained(constrained.tiny.requests(1, 0.8)[0], KINDS["nothing"])
    assert request.processor is None
    assert isinstance(of.constrained(request, KINDS["repetition"]).processor, RepetitionPenalty)
    assert isinstance(of.constrained(request, KINDS["all together"]).processor, Chain)
