"""Chats are the decoder's text behind the tokenizer's own template, in OpenAI's words."""

import pytest
import tiny
from fastapi.testclient import TestClient
from serving import PROMPT, assert_refused, chat, complete, events, make_app, make_decoder, serving
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.chat_protocol import ChatRequest
from treewright.runtime.serve.fields import NEUTRAL
from treewright.runtime.serve.worker import Totals, Worker

USER = {"role": "user", "content": PROMPT}
RENDERED = f"w31 {PROMPT} w32"  # what the template makes of it


@pytest.fixture(scope="module")
def client():
    with serving() as (client, _):
        yield client


def text_of(client, *arguments, **fields):
    return chat(client, *arguments, **fields).json()["choices"][0]["message"]["content"]


def decoded(prompt=RENDERED, max_tokens=12, choice=0):
    request = Request(tiny.tokenizer().encode(prompt).ids, max_tokens, Sampling(seed=5, choice=choice))
    (stream,), _ = make_decoder().generate([request])
    return stream.text


def test_a_chat_is_the_text_behind_its_template(client):
    answer = chat(client).json()
    assert answer.pop("id").startswith("chatcmpl-") and answer.pop("created") > 0
    assert answer == {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": decoded(), "refusal": None},
                "finish_reason": "length",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17},
    }


def test_a_chat_has_turns_of_all_roles_and_texts_in_parts(client):
    turns = [
        {"role": "system", "content": "w9"},
        USER,
        {"role": "assistant", "content": "w4", "refusal": None, "tool_calls": [], "annotations": [], "audio": None},
        {"role": "user", "content": [{"type": "text", "text": "w5"}, {"type": "text", "text": "w6"}]},
    ]
    assert text_of(client, turns) == decoded(f"w30 w9 w31 {PROMPT} w32 w4 w31 w5\nw6 w32")


def test_a_streamed_chat_says_the_role_then_the_text_then_why_it_ended(client):
    *chunks, last, done = events(chat(client, stream=True, n=2, stream_options={"include_usage": True}))
    assert done == "[DONE]" and {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    for index in (0, 1):
        first, *others = [choice for choice in choices if choice["index"] == index]
        assert first["delta"] == {"role": "assistant", "content": ""} and first["finish_reason"] is None
        assert all(choice["delta"].keys() == {"content"} for choice in others)
        assert "".join(choice["delta"]["content"] for choice in others) == decoded(choice=index)
        assert [choice["finish_reason"] for choice in others] == [None] * (len(others) - 1) + ["length"]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 24
    assert all(chunk["usage"] is None for chunk in chunks)


def test_every_chunk_may_carry_the_usage_so_far(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, _ = events(chat(client, stream=True, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] == 12
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {5}


def test_a_chat_stops_at_a_string(client):
    stop = decoded().split()[4]
    choice = chat(client, stop=[stop]).json()["choices"][0]
    assert choice["message"]["content"] == decoded().split(stop)[0] and choice["finish_reason"] == "stop"


def test_either_spelling_limits_the_tokens_and_none_goes_to_the_end_of_the_context(client):
    for fields in ({"max_tokens": None, "max_completion_tokens": 3}, {"max_tokens": 3}, {"max_completion_tokens": 12}):
        count = chat(client, **fields).json()["usage"]["completion_tokens"]
        assert count == (fields["max_tokens"] if fields.get("max_tokens") else fields["max_completion_tokens"])
    assert chat(client, max_tokens=None).json()["usage"]["total_tokens"] == 256
    assert_refused(chat(client, max_completion_tokens=3), 400, "max_completion_tokens")


def test_a_chat_longer_than_the_context_is_refused_with_the_code_that_clients_know(client):
    long = [{"role": "user", "content": "w1 " * 300}]
    for limit in (12, None):
        answer = chat(client, long, max_tokens=limit)
        assert "context holds 256" in assert_refused(answer, 400, code="context_length_exceeded")
        assert answer.json()["error"]["param"] == "messages"
    assert_refused(complete(client, prompt="w1 " * 300), 400, code="context_length_exceeded")


def test_a_tokenizer_without_template_is_a_sentence_that_says_where_to_go():
    with Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals()) as worker:
        bare = TestClient(make_app(worker, template=None))
        assert "/v1/completions" in assert_refused(chat(bare), 400, "messages", code="no_chat_template")
        assert complete(bare).status_code == 200


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no turns') }}", "{{ messages[0].none.at_all }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_fails_is_the_requests_error(template):
    with Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals()) as worker:
        message = assert_refused(chat(TestClient(make_app(worker, template=template))), 400, "messages")
    assert "chat template does not take them" in message


def test_a_template_reaches_nothing_of_the_process():
    template = "{{ messages.__class__.__mro__ }}"
    with Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals()) as worker:
        assert_refused(chat(TestClient(make_app(worker, template=template))), 400, "messages")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "tool", "content": "w1"}],
        [{"role": "User", "content": "w1"}],
        [{"content": "w1"}],
        [{"role": "user", "content": "w1", "name": "me"}],
        [{"role": "assistant", "content": "w1", "tool_calls": [{"id": "1"}]}, USER],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "w1", "cache_control": {}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "assistant", "content": "w1"}],
        [USER] * 1025,
        "w1",
        USER,
        None,
    ],
)
def test_messages_of_another_kind_are_refused(client, messages):
    assert_refused(chat(client, messages), 400, "messages")


def test_a_part_that_is_no_text_is_named(client):
    parts = [{"type": "text", "text": "w1"}, {"type": "input_audio", "input_audio": {}}]
    message = assert_refused(chat(client, [{"role": "user", "content": parts}]), 400)
    sentence = "of the parts only those of type 'text' are read, got 'input_audio'; leave it out"
    assert message == f"messages.0.content: {sentence}"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": True},
        {"audio": {"voice": "x"}},
        {"modalities": ["text", "audio"]},
        {"chat_template": "{{ 1 }}"},
        {"chat_template_kwargs": {"tools": []}},
        {"reasoning_effort": "high"},
        {"echo": True},
        {"best_of": 1},
        {"prompt": "w1"},
    ],
)
def test_what_chats_do_not_do_is_refused_by_name(client, fields):
    assert_refused(chat(client, **fields), 400, *fields, code="unsupported_parameter")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"max_tokens": None, "max_completion_tokens": 8193},
        {"logprobs": 1},
        {"logprobs": True, "top_logprobs": 21},
        {"logprobs": False, "top_logprobs": 2},
        {"top_logprobs": 2},
        {"n": 9},
    ],
)
def test_a_bad_field_of_a_chat_is_refused(client, fields):
    *_, field = fields
    assert_refused(chat(client, **fields), 400, field, code="invalid_value")


def test_what_asks_for_nothing_may_be_sent_and_null_means_not_given(client):
    assert (
        text_of(client, **{name: NEUTRAL[name] for name in NEUTRAL if name not in ChatRequest.model_fields})
        == decoded()
    )
    nothing = dict.fromkeys((*ChatRequest.model_fields, "anything"))
    answer = chat(client, **nothing | {"model": "tiny", "messages": [USER], "max_completion_tokens": 4}).json()
    assert len(answer["choices"]) == 1 and answer["usage"]["completion_tokens"] == 4
    assert_refused(chat(client, model="other"), 404, code="model_not_found")
