"""The server's fields that constrain texts: each gives the decoder's own text under them, or a sentence."""

import json

import pytest
import tiny
from constrained import END, OTHER_END, SCHEMA, characters, constrainer
from fastapi.testclient import TestClient
from serving import assert_refused, events
from treewright.runtime.constraints.settings import Constraints
from treewright.runtime.decoder import Decoder
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.app import create_app
from treewright.runtime.serve.served_model import ServedModel
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

PROMPT = "abc"
ANY_OBJECT = '{"type": "object"}'


def make_decoder():
    ends = frozenset({END})
    return Decoder(Target(tiny.llama()), WalkVerifier(), tiny.detokeniser(characters()), ends)


@pytest.fixture(scope="module")
def client():
    worker = Worker(make_decoder(), max_batch=4, max_queue=8, totals=Totals())
    words, size = tiny.words(characters()), tiny.VOCABULARY_SIZE
    model = ServedModel("tiny", words, constrainer(), vocabulary_size=size, context_length=256)
    with worker, TestClient(create_app(worker, model), raise_server_exceptions=False) as client:
        yield client


def complete(client, **fields):
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "seed": 5, "temperature": 0.7}
    return client.post("/v1/completions", json=body | fields)


def decoded(**constraints):
    request = Request(characters().encode(PROMPT).ids, 40, Sampling(0.7, seed=5))
    request = constrainer().constrained(request, Constraints(**constraints))
    ((stream,), _) = make_decoder().generate([request])
    return stream.text, stream.finish_reason


FIELDS = [
    ({"presence_penalty": 1.5}, {"presence_penalty": 1.5}),
    ({"frequency_penalty": -0.5}, {"frequency_penalty": -0.5}),
    ({"repetition_penalty": 2}, {"repetition_penalty": 2.0}),
    ({"logit_bias": {"4": 3, "21": -100.0}}, {"logit_bias": {4: 3.0, 21: -100.0}}),
    ({"min_p": 0.4}, {"min_p": 0.4}),
    ({"min_tokens": 30.0, "stop_token_ids": [20]}, {"min_tokens": 30, "stop_token_ids": (20,)}),
    ({"bad_words": ["a", "b"]}, {"bad_words": ("a", "b")}),
    ({"allowed_token_ids": [3, 5, 20]}, {"allowed_token_ids": (3, 5, 20)}),
    ({"stop_token_ids": [*range(11, 21), OTHER_END]}, {"stop_token_ids": (*range(11, 21), OTHER_END)}),
    ({"response_format": {"type": "json_object"}}, {"json_schema": ANY_OBJECT}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "b", "schema": json.loads(SCHEMA)}}},
        {"json_schema": SCHEMA},
    ),
    ({"structured_outputs": {"json": json.loads(SCHEMA)}}, {"json_schema": SCHEMA}),
    ({"structured_outputs": {"json_object": True}}, {"json_schema": ANY_OBJECT}),
    ({"structured_outputs": {"regex": "a[0-9]{3}"}}, {"regex": "a[0-9]{3}"}),
    ({"structured_outputs": {"choice": ["on", "off"]}}, {"choices": ("on", "off")}),
    ({"structured_outputs": {"grammar": "root ::= [0-9]+"}}, {"grammar": "root ::= [0-9]+"}),
    ({"guided_json": SCHEMA}, {"json_schema": SCHEMA}),
    ({"guided_regex": "a[0-9]{3}"}, {"regex": "a[0-9]{3}"}),
    ({"guided_choice": ["on", "off"]}, {"choices": ("on", "off")}),
    ({"guided_grammar": "root ::= [0-9]+"}, {"grammar": "root ::= [0-9]+"}),
]


@pytest.mark.parametrize(("fields", "constraints"), FIELDS, ids=lambda value: str(value)[:40])
def test_a_field_gives_the_text_under_its_constraint(client, fields, constraints):
    (choice,) = complete(client, **fields).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == decoded(**constraints) != decoded()


def test_fields_that_ask_for_nothing_change_nothing(client):
    nothing = {
        "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logit_bias": {}, "min_p": 0,
        "min_tokens": 0, "bad_words": [], "allowed_token_ids": None, "stop_token_ids": [], "guided_json": None,
        "response_format": {"type": "text"}, "structured_outputs": {},
    }  # fmt: skip
    assert complete(client, **nothing).json()["choices"][0]["text"] == decoded()[0]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"presence_penalty": 2.1}, "presence_penalty: "),
        ({"frequency_penalty": True}, "frequency_penalty: "),
        ({"repetition_penalty": 0}, "repetition_penalty: "),
        ({"logit_bias": {"a": 1}}, "logit_bias.a: "),
        ({"logit_bias": {"4": 101}}, "logit_bias.4: "),
        ({"logit_bias": dict.fromkeys(map(str, range(1025)), 1)}, "logit_bias: "),
        ({"logit_bias": {"40": 1}}, "logit_bias names the token id 40, and the largest of this target is 39"),
        ({"min_p": -0.1}, "min_p: "),
        ({"min_tokens": 41}, "min_tokens is 41, but the text has at most 40 tokens (max_tokens)"),
        ({"bad_words": [""]}, "bad_words.0: "),
        ({"bad_words": ["a"] * 129}, "bad_words: "),
        ({"allowed_token_ids": []}, "allowed_token_ids: "),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0: "),
        ({"response_format": {"type": "yaml"}}, "response_format: "),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: "),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema: "),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern: "),
        ({"guided_json": {"type": "nope"}}, "guided_json: json_schema cannot be followed"),
        ({"guided_regex": "(?=a)"}, "guided_regex: regex cannot be followed"),
        ({"structured_outputs": {"grammar": "start: b"}}, "structured_outputs: grammar cannot be followed"),
        ({"guided_choice": []}, "guided_choice: "),
        ({"guided_regex": "a", "guided_json": {}}, "guided_json and guided_regex are both given"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos continues a text past its end"),
        ({"guided_regex": "a", "min_tokens": 2}, "min_tokens may ban what the text's grammar asks for"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(client, fields, complaint):
    message = assert_refused(complete(client, **fields), 400, complaint.split()[0].rstrip(":").partition(".")[0])
    assert message.startswith(complaint)


def test_a_text_at_a_dead_end_of_its_grammar_is_refused_by_its_field(client):
    dead = {"guided_grammar": 'start: "ab" NONE\nNONE: /c/ & /d/'}
    said = assert_refused(complete(client, **dead), 400, "guided_grammar")
    assert said.startswith("guided_grammar: grammar has come to a dead end")
    *_, error, done = events(complete(client, **dead, stream=True))
    assert error["error"]["message"] == said and done == "[DONE]"


def test_a_schema_that_is_nested_too_deeply_is_refused(client):
    nested = '{"items":' * 900 + "{}" + "}" * 900
    body = f'{{"model": "tiny", "prompt": "abc", "guided_json": {nested}}}'
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
