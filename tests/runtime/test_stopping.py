"""Texts end where they should, and a tree that runs past the end never emits past it."""

import pytest
import tiny
from treewright.controller.contract import COUPLED
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.selector import Selector, TreeLimits
from treewright.runtime.request import Request
from treewright.runtime.stopping import TextStream

LIMITS = TreeLimits(max_depth=5, width=3, frontier=3, budget=12)


def stream(max_tokens=50, end_tokens=(), stop=()):
    return TextStream(tiny.tokenizer(), max_tokens=max_tokens, end_tokens=end_tokens, stop=stop)


def feed(text, tokens):
    for token in tokens:
        if text.remaining:
            text.append(token)
    return text


def test_the_token_limit_ends_a_text():
    text = feed(stream(max_tokens=3), [1, 2, 3, 4])
    assert (text.token_ids, text.finish_reason, text.remaining) == ([1, 2, 3], "length", 0)


def test_the_end_token_ends_a_text_and_is_not_part_of_it():
    text = feed(stream(end_tokens=(9,)), [1, 2, 9, 4])
    assert (text.text, text.finish_reason) == ("w1 w2", "stop")


def test_a_stop_string_and_what_follows_is_cut():
    text = feed(stream(stop=("w3 w4",)), [1, 2, 3, 4, 5])
    assert (text.text, text.finish_reason) == ("w1 w2 ", "stop")


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
        text.append(token)
        pieces.append(text.take())
    assert "".join(pieces) == text.text == "w1 w2 w3 w4 w5 w6"


def test_the_earliest_of_several_stop_strings_counts():
    assert feed(stream(stop=("w4", "w2 w3")), [1, 2, 3, 4]).text == "w1 "


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
