"""Grammars: what cannot be followed is refused in a sentence, off the decode thread, and within its time."""

from importlib.metadata import version

import numpy as np
import pytest
import tiny
import torch
from constrained import END, OTHER_END, compiled, constrainer, ids
from packaging.version import Version
from treewright.controller.errors import InputError
from treewright.runtime.constraints.grammars.compiler import GrammarCompiler
from treewright.runtime.constraints.grammars.mask import GrammarMask
from treewright.runtime.constraints.grammars.source import Grammar, GrammarKind
from treewright.runtime.constraints.settings import Constraints
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling


def request(**changes):
    return Request([1, 2], 8, Sampling(), **changes)


def allowed_behind(mask, text, path=""):
    rows = mask(ids(text), np.array([ids(path)], dtype=np.int64).reshape(1, -1), torch.zeros(1, 40), of_target=True)
    return set(torch.nonzero(rows[0] == 0)[:, 0].tolist())


@pytest.mark.parametrize(
    ("constraints", "complaint"),
    [
        ({"json_schema": "{"}, "json_schema cannot be followed"),
        ({"json_schema": '{"type": "nope"}'}, "json_schema cannot be followed .*nope"),
        ({"json_schema": '{"not": {"type": "string"}}'}, 'json_schema cannot be followed .*"not"'),
        ({"json_schema": "false"}, "json_schema cannot be followed .*object schema"),
        ({"json_schema": '{"allOf": [{"type": "string"}, {"type": "null"}]}'}, "cannot be followed .*Unsatisfiable"),
        ({"json_schema": '{"items":' * 2000 + "{}" + "}" * 2000}, "json_schema cannot be followed .*recursion"),
        ({"json_schema": '{"$ref": "http://elsewhere/schema"}'}, "json_schema cannot be followed"),
        ({"regex": "[a"}, "regex cannot be followed .*unclosed"),
        ({"regex": "(?=a)b"}, "regex cannot be followed .*look-around"),
        ({"regex": "a" * 70_000}, "regex has 70000 characters, and up to 65536 are taken"),
        ({"grammar": "start: other"}, "grammar cannot be followed"),
        ({"grammar": "start: start"}, "grammar cannot be followed"),
        ({"grammar": "root ::= ("}, "grammar cannot be followed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_grammar_that_cannot_be_followed_is_refused_in_a_sentence(constraints, complaint):
    with pytest.raises(InputError, match=complaint) as refusal:
        constrainer().constrained(request(), Constraints(**constraints))
    assert len(str(refusal.value)) < 400 and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("constraints", "complaint"),
    [
        ({"json_schema": "{}", "regex": "a"}, "json_schema and regex are both given"),
        ({"json_schema": "{}", "min_tokens": 3}, "min_tokens may ban what the text's grammar asks for"),
        ({"regex": "a", "bad_words": ("a",)}, "bad_words may ban what the text's grammar asks for"),
        ({"choices": ("a",), "allowed_token_ids": (3,)}, "allowed_token_ids may ban what the text's grammar"),
        ({"allowed_token_ids": (20, 21), "bad_words": ("a", "b")}, "allowed_token_ids may leave no token"),
        ({"allowed_token_ids": (END,), "min_tokens": 2}, "allowed_token_ids may leave no token"),
        ({"logit_bias": {40: 1.0}}, "logit_bias names the token id 40, and the largest of this target is 39"),
        ({"stop_token_ids": (99,)}, "stop_token_ids names the token id 99"),
        ({"bad_words": ("<end>",)}, "bad_words holds '<end>', which has no tokens of its own"),
    ],
    ids=str,
)
def test_what_would_leave_no_token_or_says_nothing_is_refused(constraints, complaint):
    with pytest.raises(InputError, match=complaint):
        constrainer().constrained(request(), Constraints(**constraints))


def test_a_text_that_goes_on_past_its_end_follows_no_grammar():
    with pytest.raises(InputError, match="ignore_eos continues a text past its end, and its grammar says where"):
        constrainer().constrained(request(ignore_end=True), Constraints(regex="a"))


def test_a_target_without_end_token_or_with_another_tokenizer_follows_no_grammar():
    with pytest.raises(InputError, match="regex needs an end-of-text token"):
        constrainer(frozenset()).constrained(request(), Constraints(regex="a"))
    with pytest.raises(InputError, match="cannot be followed with this target's tokenizer"):
        GrammarCompiler(tiny.words(), {3}).compile(Grammar(GrammarKind.REGEX, "a"))


def test_end_tokens_are_allowed_where_the_grammar_may_end_and_alone_where_it_must():
    grammar = constrainer(frozenset({END, OTHER_END}))._grammars.compile(Grammar(GrammarKind.REGEX, "ab|abc"))
    mask = GrammarMask(grammar, grammar, {END, OTHER_END})
    a, b, c = ids("abc")
    assert allowed_behind(mask, "") == {a}
    assert allowed_behind(mask, "", "a") == {b}
    assert allowed_behind(mask, "", "ab") == allowed_behind(mask, "a", "b") == {c, END, OTHER_END}
    assert allowed_behind(mask, "ab", "c") == allowed_behind(mask, "abc") == {END, OTHER_END}


def test_a_mask_does_not_depend_on_what_was_asked_before():
    """Going back behind a blank, llguidance's own `rollback` forgets that a number has ended."""
    grammar = compiled("json")
    paths = ["", ":", ":7", ":7 ", ':7 ,"b"', ":   ", ": 7", ":7  ", ": -", ":7,"]
    mask = GrammarMask(grammar, grammar, {END})
    for path in paths + paths[::-1]:
        assert allowed_behind(mask, '{"a"', path) == allowed_behind(GrammarMask(grammar, grammar, {END}), '{"a"' + path)
    assert allowed_behind(mask, '{"a"', ":7  ") == set(ids(" ,"))


@pytest.mark.skipif(Version(version("llguidance")) < Version("1.9"), reason="earlier ones put many runs in a row")
def test_json_has_a_bounded_number_of_blanks_in_a_row():
    grammar = compiled("json")
    mask = GrammarMask(grammar, grammar, {END})
    assert set(ids(' "')) <= allowed_behind(mask, "{", " " * 15)
    assert allowed_behind(mask, "{", " " * 16) == set(ids('"'))


@pytest.mark.slow
def test_a_long_row_of_rules_is_compiled_on_a_stack_that_holds_it():
    """On a thread of the usual size, it would end the process."""
    rules = "".join(f'a{number}: "b" a{number + 1} "c"\n' for number in range(2400))
    assert len(rules) < 1 << 16
    grammar = constrainer()._grammars.compile(Grammar(GrammarKind.GRAMMAR, f'start: a0\n{rules}a2400: "d"'))
    assert allowed_behind(GrammarMask(grammar, grammar, {END}), "bbb") == set(ids("b"))
