"""Log-probabilities on the wire: one per token, of the whole text by one plain forward, whole or streamed."""

import pytest
import tiny
import torch
from serving import PROMPT, assert_refused, chat, complete, events, make_decoder, serving
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling


@pytest.fixture(scope="module")
def client():
    drafting = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(ConfidenceScorer(), TreeLimits(4, 3, 4, 10)))
    with serving(decoder=drafting) as (client, _):
        yield client


def decoded(prompt=PROMPT, max_tokens=12):
    request = Request(tiny.tokenizer().encode(prompt).ids, max_tokens, Sampling(seed=5))
    (stream,), _ = make_decoder().generate([request])
    return stream


def rows_of(prompt, token_ids):
    """[n, V] of the tokens from the second on."""
    text = torch.tensor([[*tiny.tokenizer().encode(prompt).ids, *token_ids]])
    with torch.no_grad():
        return text[0, 1:], tiny.llama().model(text).logits[0, :-1].log_softmax(dim=-1)


def expected(prompt, token_ids, num_top, first=0):
    """The log-probability of each token from number `first` + 1 on, and of the likeliest with it."""
    tokens, rows = rows_of(prompt, token_ids)
    own = rows[range(len(tokens)), tokens]
    tops = []
    for token, row in zip(tokens.tolist(), rows, strict=True):
        chosen = {*row.topk(num_top).indices.tolist(), token}
        tops.append({f" w{each}": pytest.approx(row[each].item(), abs=1e-9) for each in chosen})
    return [pytest.approx(each, abs=1e-9) for each in own.tolist()[first:]], tops[first:]


def log_probs_of(answer):
    return answer.json()["choices"][0]["logprobs"]


@pytest.mark.parametrize("num_top", [0, 1, 4])
def test_a_completion_says_how_likely_each_token_was(client, num_top):
    text = decoded()
    answer = complete(client, logprobs=num_top)
    found = log_probs_of(answer)
    assert answer.json()["choices"][0]["text"] == text.text
    assert "".join(found["tokens"]) == text.text
    for start, token in zip(found["text_offset"], found["tokens"], strict=True):
        assert text.text[start:].startswith(token)
    own, tops = expected(PROMPT, text.token_ids, num_top, first=2)
    assert found["token_logprobs"] == own and found["top_logprobs"] == tops


@pytest.mark.parametrize("prompt", [PROMPT, [1, 2, 3]])
def test_an_echoed_prompt_has_them_too(client, prompt):
    choice = complete(client, prompt=prompt, echo=True, logprobs=1, max_tokens=1).json()["choices"][0]
    text = decoded(max_tokens=1)
    assert choice["text"] == PROMPT + text.text
    found = choice["logprobs"]
    own, tops = expected(PROMPT, text.token_ids, 1)
    assert found["tokens"] == [" w1", " w2", " w3", text.text]
    assert found["text_offset"] == [0, 2, 5, 8]
    assert found["token_logprobs"] == [None, *own] and found["top_logprobs"] == [None, *tops]


def test_a_prompt_may_be_scored_without_a_text(client):
    answer = complete(client, prompt=[PROMPT, "w4 w5"], echo=True, logprobs=2, max_tokens=0)
    first, second = answer.json()["choices"]
    assert (first["text"], second["text"]) == (PROMPT, "w4 w5") and first["finish_reason"] == "length"
    own, tops = expected(PROMPT, [], 2)
    assert first["logprobs"]["token_logprobs"] == [None, *own] and first["logprobs"]["top_logprobs"] == [None, *tops]
    assert len(second["logprobs"]["tokens"]) == 2
    assert answer.json()["usage"] == {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}


def test_an_answer_that_might_be_too_large_is_refused(client):
    fields = {"echo": True, "max_tokens": 1, "logprobs": 20}
    assert complete(client, prompt=[[5] * 200], **fields).status_code == 200
    message = assert_refused(complete(client, prompt=[[5] * 200] * 64, **fields), 400, "logprobs")
    assert f"this one may have {64 * 201 * 21};" in message
    message = assert_refused(chat(client, n=8, max_tokens=2000, logprobs=True, top_logprobs=20), 400, "logprobs")
    assert f"this one may have {8 * 2000 * 21};" in message


def test_no_tokens_may_be_asked_for_with_an_echo_or_without(client):
    for fields, text in (({"echo": True}, PROMPT), ({}, "")):
        for stream in (False, True):
            answer = complete(client, max_tokens=0, stream=stream, **fields)
            (choice,) = (events(answer)[0] if stream else answer.json())["choices"]
            assert choice == {"index": 0, "text": text, "finish_reason": "length", "logprobs": None}


@pytest.mark.parametrize("echo", [False, True])
def test_a_streams_pieces_carry_those_of_their_tokens(client, echo):
    fields = {"logprobs": 2, "echo": echo, "n": 2}
    whole = complete(client, **fields).json()["choices"]
    *chunks, _ = events(complete(client, stream=True, **fields))
    pieces = [choice for chunk in chunks for choice in chunk["choices"]]
    for choice in whole:
        of_choice = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in of_choice) == choice["text"]
        for name, numbers in choice["logprobs"].items():
            assert [each for piece in of_choice for each in piece["logprobs"][name]] == numbers


def test_every_prompt_of_several_is_echoed_before_its_own_texts(client):
    choices = complete(client, prompt=["w1", "w2 w3"], n=2, echo=True).json()["choices"]
    for choice, prompt in zip(choices, ["w1", "w1", "w2 w3", "w2 w3"], strict=True):
        assert choice["text"].startswith(prompt + " w")


def test_a_chat_says_how_likely_each_token_was(client):
    answer = chat(client, logprobs=True, top_logprobs=2).json()["choices"][0]
    prompt = f"w31 {PROMPT} w32"
    text = decoded(prompt)
    own, _ = expected(prompt, text.token_ids, 2, first=4)
    content = answer["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == answer["message"]["content"] == text.text
    assert [token["logprob"] for token in content] == own
    for token in content:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert [other.keys() for other in token["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 2
        assert token["top_logprobs"][0]["logprob"] >= max(token["logprob"], token["top_logprobs"][1]["logprob"])
    *chunks, _ = events(chat(client, logprobs=True, top_logprobs=2, stream=True))
    streamed = [choice["logprobs"]["content"] for chunk in chunks[1:] for choice in chunk["choices"]]
    assert [token for tokens in streamed for token in tokens] == content
    assert chat(client, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_the_token_that_completes_a_stop_string_is_counted_though_not_shown(client):
    stop = decoded().text.split()[4]
    choice = complete(client, stop=stop, logprobs=0).json()["choices"][0]
    assert choice["text"] == decoded().text.split(stop)[0]
    assert len(choice["logprobs"]["tokens"]) == 5
    assert max(choice["logprobs"]["text_offset"]) <= len(choice["text"])
