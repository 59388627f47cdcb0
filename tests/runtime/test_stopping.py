"""Texts end where they should, and a tree that runs past the end never emits past it."""

from dataclasses import replace

import pytest
import tiny
from treewright.controller.contract import COUPLED
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target
from treewright.runtime.text.stopping import TextStream
from treewright.runtime.verification.walk import WalkVerifier
from vocabularies import byte_fallback, byte_level

LIMITS = TreeLimits(max_depth=5, width=3, frontier=3, budget=12)


def stream(max_tokens=50, end_tokens=(), stop=(), min_tokens=0):
    return TextStream(
        tiny.detokeniser(), max_tokens=max_tokens, end_tokens=end_tokens, stop=stop, min_tokens=min_tokens
    )


def feed(text, tokens):
    text.append(tokens)
    return text


def test_the_token_limit_ends_a_text():
    text = stream(max_tokens=3)
    assert text.append([1, 2, 3, 4]) == 3
    assert text.append([5]) == 0
    assert (text.token_ids, text.finish_reason, text.remaining) == ([1, 2, 3], "length", 0)


def test_the_end_token_ends_a_text_and_is_not_part_of_it():
    text = feed(stream(end_tokens=(9,)), [1, 2, 9, 4])
    assert (text.text, text.finish_reason) == ("w1 w2", "stop")


def test_a_stop_string_and_what_follows_is_cut():
    text = feed(stream(stop=("w3 w4",)), [1, 2, 3, 4, 5])
    assert (text.text, text.finish_reason) == ("w1 w2 ", "stop")


@pytest.mark.parametrize(("min_tokens", "text"), [(0, "w1 "), (1, "w1 "), (2, "w1 w2 w3 "), (4, "w1 w2 w3 w2 w5")])
def test_a_stop_string_within_the_least_number_of_tokens_is_text(min_tokens, text):
    one_by_one = stream(stop=("w2",), min_tokens=min_tokens, max_tokens=5)
    for token in (1, 2, 3, 2, 5):
        one_by_one.append([token])
    assert one_by_one.text == text


def test_more_tokens_asked_for_at_least_than_at_most_are_refused():
    request = Request([1], 3, Sampling(), min_tokens=4)
    with pytest.raises(InputError, match="min_tokens is 4, but the text has at most 3"):
        tiny.decoder(tiny.llama()).open_streams([request])


def test_text_that_may_begin_a_stop_string_is_held_back_until_decided():
    text = stream(stop=("w3 w4",))
    feed(text, [1, 3])
    assert text.take() == "w1 "
    feed(text, [5])
    assert text.take() == "w3 w5"


def test_the_pieces_taken_are_the_whole_text():
    text = stream(stop=("w7",), max_tokens=6)
    pieces = []
    for token in (1, 2, 3, 4, 5, 6):
        text.append([token])
        pieces.append(text.take())
    assert "".join(pieces) == text.text == "w1 w2 w3 w4 w5 w6"


def test_the_earliest_of_several_stop_strings_counts():
    assert feed(stream(stop=("w4", "w2 w3")), [1, 2, 3, 4]).text == "w1 "


@pytest.mark.parametrize(("tokenizer", "shown"), [(byte_level(), "a\ufffd"), (byte_fallback(), "a\ufffd\ufffd")])
@pytest.mark.parametrize(("max_tokens", "reason"), [(3, "length"), (4, "stop")])
def test_an_unfinished_character_is_shown_at_the_end(tokenizer, shown, max_tokens, reason):
    text, pieces = TextStream(tiny.detokeniser(tokenizer), max_tokens=max_tokens, end_tokens=(0,)), []
    for token in b"a\xf0\x9f\x00"[:max_tokens]:
        text.append([token])
        pieces.append(text.take())
    assert (text.text, text.finish_reason) == (shown, reason)
    assert pieces[:2] == ["a", ""]
    assert "".join(pieces) == shown


def test_a_stop_string_is_found_in_what_is_shown_at_the_end():
    text = TextStream(tiny.detokeniser(byte_level()), max_tokens=2, end_tokens=(), stop=("\ufffd",))
    text.append([ord("a"), 0xF0])
    assert (text.text, text.finish_reason) == ("a", "stop")


def test_a_failed_text_takes_nothing_more_and_keeps_what_was_shown():
    text = feed(stream(), [1, 2])
    text.fail(error := RuntimeError("no more"))
    assert (text.error, text.finish_reason, text.remaining, text.take()) == (error, None, 0, "w1 w2")


def special_decoder():
    """Plain decoding where `w38` and `w39` are special, the latter the end of a text."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens(["w38", "w39"])
    return Decoder(Target(tiny.llama()), WalkVerifier(), tiny.detokeniser(tokenizer), frozenset({39}))


@pytest.mark.parametrize(("string", "token"), [("w38", 38), ("w39", 39)])
def test_a_stop_string_that_is_a_special_token_stops_at_it_and_shows_nothing_of_it(string, token):
    decoder = special_decoder()
    request = Request([1, 2], 200, Sampling(1.3, seed=4), ignore_end=True)
    (whole,), _ = decoder.generate([request])
    (stopped,), _ = decoder.generate([replace(request, stop=("w5 w5 w5", string))])
    count = whole.token_ids.index(token) + 1
    assert 5 < count < 200
    assert stopped.token_ids == whole.token_ids[:count] and stopped.finish_reason == "stop"
    assert whole.text.startswith(stopped.text) and string not in stopped.text


def test_a_stop_string_that_can_never_be_found_is_refused_in_a_sentence():
    request = Request([1, 2], 10, Sampling(), stop=("w1 w38",))
    with pytest.raises(InputError, match="stop holds 'w1 w38', which has the special token 'w38' beside other text"):
        special_decoder().open_streams([request])
    with pytest.raises(InputError, match="at least one character"):
        special_decoder().open_streams([replace(request, stop=("",))])


def test_a_text_begins_with_the_space_behind_its_prompt():
    (text,), _ = special_decoder().generate([Request([1, 2], 3, Sampling(seed=1))])
    assert "w1 w2" + text.text == tiny.tokenizer().decode([1, 2, *text.token_ids])


def decode(trees, max_tokens=40, end_tokens=frozenset(), stop=()):
    """Tokens, text and reason of three prompts, with trees or plainly."""
    requests = [Request(request.prompt_ids, max_tokens, request.sampling, stop) for request in tiny.requests(3, 0.8)]
    selector = Selector(ConfidenceScorer(), LIMITS) if trees else None
    drafter = tiny.llama(noise=0.02) if trees else None
    decoder = tiny.decoder(tiny.llama(), drafter, selector, COUPLED, end_tokens)
    streams, _ = decoder.generate(requests)
    return [(text.token_ids, text.text, text.finish_reason) for text in streams]


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_trees_end_at_the_token_limit_like_plain_decoding(max_tokens):
    assert decode(True, max_tokens) == decode(False, max_tokens)
    assert all(len(tokens) == max_tokens for tokens, _, _ in decode(True, max_tokens))


def test_trees_end_at_the_end_token_like_plain_decoding():
    ends = frozenset({3, 8, 21})
    assert decode(True, end_tokens=ends) == decode(False, end_tokens=ends)
    assert any(reason == "stop" for _, _, reason in decode(True, end_tokens=ends))


def test_trees_end_at_a_stop_string_like_plain_decoding():
    (_, text, _), *_ = decode(False)
    words = text.split()
    stop = (" ".join(words[5:7]),)
    assert decode(True, stop=stop) == decode(False, stop=stop)
    assert decode(True, stop=stop)[0][2] == "stop"


def test_the_end_token_can_be_ignored():
    request = tiny.requests(1, 0.8)[0]
    request = Request(request.prompt_ids, 30, request.sampling, ignore_end=True)
    (text,), _ = tiny.decoder(tiny.llama(), end_tokens=frozenset(range(40))).generate([request])
    assert len(text.token_ids) == 30


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "complaint"), [([], 5, "prompt is empty"), ([1] * 250, 9, "holds 256")]
)
def test_a_request_that_does_not_fit_is_refused_in_a_sentence(prompt, max_tokens, complaint):
    request = Request(prompt, max_tokens, tiny.requests(1, 1.0)[0].sampling)
    with pytest.raises(ValueError, match=complaint):
        tiny.decoder(tiny.llama()).generate([request])
