"""What a server says of itself: readiness, version, tokens, request names, its log and its schema."""

import fcntl
import os

import pytest
import tiny
from fastapi.testclient import TestClient
from serving import BODY, PROMPT, assert_refused, complete, make_app, make_decoder, make_model, serving
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import WordLevel
from treewright.runtime.constraints.constrain import Constrainer
from treewright.runtime.serve import lines
from treewright.runtime.serve.app import create_app
from treewright.runtime.serve.fields import NEUTRAL, WITHOUT_EFFECT, only_with
from treewright.runtime.serve.lines import LineWriter
from treewright.runtime.serve.served_model import ServedModel
from treewright.runtime.serve.token_texts import LEAST_LOG_PROB, TokenTexts, finite
from treewright.runtime.serve.worker import Totals, Worker

GETS = ("/health", "/ready", "/version", "/metrics", "/v1/models", "/v1/models/tiny", "/openapi.json")


@pytest.fixture(scope="module")
def client():
    with serving() as (client, _):
        yield client


@pytest.fixture(scope="module")
def schema(client):
    return client.get("/openapi.json").json()


def test_a_server_is_ready_while_it_decodes():
    worker = Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals())
    client = TestClient(make_app(worker))
    assert_refused(client.get("/ready"), 503)
    with worker:
        assert client.get("/ready").json() == {"status": "ok"}
    assert_refused(client.get("/ready"), 503)


def test_a_server_says_its_version_and_how_long_its_context_is(client):
    assert client.get("/version").json()["version"][0].isdigit()
    assert client.get("/v1/models/tiny").json()["max_model_len"] == 256


@pytest.mark.parametrize("path", GETS)
def test_what_can_be_read_answers_to_head_as_well(client, path):
    answer = client.head(path)
    assert answer.status_code == 200 and answer.text == ""
    assert client.delete(path).headers["Allow"] == "GET, HEAD"


def test_texts_and_chats_are_tokenised_as_they_would_be_decoded(client):
    answer = client.post("/tokenize", json={"prompt": PROMPT, "return_token_strs": True}).json()
    assert answer == {"count": 3, "max_model_len": 256, "tokens": [1, 2, 3], "token_strs": ["w1", "w2", "w3"]}
    messages = [{"role": "user", "content": "w7"}]
    answer = client.post("/tokenize", json={"model": "tiny", "messages": messages}).json()
    assert answer["tokens"] == [31, 7, 32] and answer["token_strs"] is None
    assert client.post("/detokenize", json={"tokens": [1, 2, 3]}).json() == {"prompt": PROMPT}
    assert client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "w1", "messages": [{"role": "user", "content": "w1"}]}, 400),
        ("/tokenize", {"prompt": ""}, 400),
        ("/tokenize", {"prompt": "w1", "add_special_tokens": False}, 400),
        ("/tokenize", {"prompt": "w1", "model": "other"}, 404),
        ("/detokenize", {"tokens": [tiny.VOCABULARY_SIZE]}, 400),
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": "w1"}, 400),
        ("/detokenize", {"tokens": [1], "skip_special_tokens": False}, 400),
    ],
)
def test_what_cannot_be_tokenised_is_refused(client, path, body, status):
    assert_refused(client.post(path, json=body), status)


@pytest.mark.parametrize("name", ["a-request.of:mine_7", "x" * 128])
def test_a_requests_own_name_comes_back(client, name):
    assert client.get("/health", headers={"x-request-id": name}).headers["x-request-id"] == name


@pytest.mark.parametrize("name", [None, "", "x" * 129, "a b", "a\tb", "<script>"])
def test_a_request_without_a_good_name_gets_one_of_its_own(client, name):
    headers = {} if name is None else {"x-request-id": name}
    names = [client.get("/health", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert names[0] != names[1] and all(each.startswith("req-") for each in names)


def test_every_answer_has_a_name_errors_too(client):
    answers = [
        complete(client),
        complete(client, stream=True),
        complete(client, n=0),
        client.get("/nothing"),
        client.get("/v1/completions"),
        client.post("/v1/completions", content="{"),
        complete(client, prompt="a" * (5 << 20)),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 404, 405, 400, 413]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


class BrokenModel(ServedModel):
    def encode(self, text):
        raise ZeroDivisionError


def failing_client(written):
    words, size = tiny.words(), tiny.VOCABULARY_SIZE
    constrainer = Constrainer(words, frozenset(), size)
    model = BrokenModel("tiny", words, constrainer, vocabulary_size=size, context_length=256)
    worker = Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals())
    return TestClient(create_app(worker, model, write_line=written.append), raise_server_exceptions=False)


def test_what_fails_is_answered_in_the_envelope_and_logged_by_its_name(caplog):
    written = []
    answer = complete(failing_client(written))
    assert_refused(answer, 500)
    name = answer.headers["x-request-id"]
    assert f"request {name} failed" in caplog.text and "ZeroDivisionError" in caplog.text
    assert written[0].endswith(name) and " 500 " in written[0]


def test_a_line_per_request_says_what_became_of_it_and_nothing_of_the_prompt():
    written = []
    with Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals()) as worker:
        client = TestClient(create_app(worker, make_model(), write_line=written.append))
        client.post("/v1/completions", json=BODY, headers={"x-request-id": "mine"})
        client.get("/v1/models/a%0Ab?key=secret")
        client.get("/" + "x" * 1000)
    assert len(written) == 3
    assert " POST /v1/completions 200 " in written[0] and written[0].endswith(" s mine")
    assert " GET /v1/models/a%0Ab 404 " in written[1]
    assert not any("secret" in line or "w1" in line or "\n" in line or len(line) > 400 for line in written)


def test_a_reader_that_has_stopped_reading_holds_up_no_request(monkeypatch):
    monkeypatch.setattr(lines, "MOST_WAITING", 3)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with open(read) as reader, LineWriter(write) as writer:
        for number in range(10):  # each fills the pipe
            writer(f"{number}" * 4095)
        assert [reader.readline() for _ in range(3)] == [f"{number}" * 4095 + "\n" for number in range(3)]
        writer("last")  # three have left the queue
        last = next(line for line in reader if "last" in line)
        assert last.startswith("(") and last.endswith(" lines dropped) last\n")
    os.close(write)


def test_the_schema_declares_what_may_be_answered(schema):
    for path, methods in schema["paths"].items():
        for answers in [operation["responses"] for operation in methods.values()]:
            assert "422" not in answers and {"4XX", "5XX"} <= answers.keys()
            for status, answer in answers.items():
                if status != "200":
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorEnvelope")
            if path.startswith("/v1/c"):
                assert {"400", "404", "413", "503"} <= answers.keys()
                assert answers["200"]["content"].keys() == {"application/json", "text/event-stream"}


@pytest.mark.parametrize("name", ["CompletionRequest", "ChatRequest"])
def test_the_schema_shows_what_else_may_be_sent_and_nothing_more(schema, name):
    shown = schema["components"]["schemas"][name]
    properties = shown["properties"]
    assert shown["additionalProperties"] == {"type": "null"}
    assert {*NEUTRAL, *WITHOUT_EFFECT} <= properties.keys()
    assert properties["typical_p"] == {"enum": [1, None]} and properties["user"] == {}
    for field, about in properties.items():
        if field not in ("model", "prompt", "messages", *WITHOUT_EFFECT):
            assert None in about.get("enum", [None]) and ("enum" in about or {"type": "null"} in about["anyOf"])
    assert only_with("stream_options", "stream") in shown["allOf"]
    integer = next(option for option in properties["top_k"]["anyOf"] if "minimum" in option)
    assert integer == {"type": "integer", "minimum": -1} and properties["top_k"]["default"] == 0


def test_the_schema_knows_the_model(schema):
    shown = schema["components"]["schemas"]
    assert shown["ChatRequest"]["properties"]["model"]["enum"] == ["tiny"]
    assert {"type": "string", "title": "Name of the model", "enum": ["tiny"]} in shown["TokenizeRequest"]["properties"][
        "model"
    ]["anyOf"]
    tokens = shown["CompletionRequest"]["properties"]
    lists = [shown["DetokenizeRequest"]["properties"]["tokens"]]
    lists += [tokens[name]["anyOf"][0] for name in ("allowed_token_ids", "stop_token_ids")]
    assert [each["items"]["maximum"] for each in lists] == [tiny.VOCABULARY_SIZE - 1] * 3


def byte_tokens():
    """Tokens that hold a word with the space before it, half a character, and a special one."""
    tokens = Tokenizer(WordLevel({"Ġword": 0, "Ã": 1, "<end>": 2}, unk_token="Ã"))
    tokens.decoder = ByteLevelDecoder()
    tokens.add_special_tokens(["<end>"])
    return TokenTexts(tiny.detokeniser(tokens))


def test_single_tokens_are_shown_with_their_space_and_special_ones_as_they_are_spelt():
    texts = byte_tokens()
    assert [texts.of(token) for token in range(3)] == [" word", "\ufffd", "<end>"]
    assert [texts.content(token) for token in range(3)] == [[*b" word"], None, [*b"<end>"]]


def test_a_log_probability_that_json_cannot_hold_is_the_least():
    assert finite(-float("inf")) == LEAST_LOG_PROB and finite(-1.5) == -1.5
