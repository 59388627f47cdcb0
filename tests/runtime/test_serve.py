"""The server gives the decoder's own text, one envelope for every error, and never a silently cut stream."""

import asyncio
import json
import socket
import threading
from time import sleep

import httpx
import pytest
import tiny
from failing import FailingModel
from fastapi.testclient import TestClient
from pydantic import ValidationError
from serving import (
    BODY,
    PROMPT,
    assert_refused,
    complete,
    events,
    listening,
    make_app,
    make_decoder,
    post,
    serving,
)
from treewright import cli
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.address import listen
from treewright.runtime.serve.body import MAX_BODY_BYTES
from treewright.runtime.serve.chat_protocol import ChatRequest
from treewright.runtime.serve.completion_protocol import CompletionRequest
from treewright.runtime.serve.errors import ServeError
from treewright.runtime.serve.fields import NEUTRAL, WITHOUT_EFFECT
from treewright.runtime.serve.tokens import DetokenizeRequest
from treewright.runtime.serve.worker import Totals, Worker

LIMITS = TreeLimits(max_depth=4, width=3, frontier=3, budget=8)


@pytest.fixture(scope="module")
def client():
    with serving() as (client, _):
        yield client


def text_of(client, **fields):
    return complete(client, **fields).json()["choices"][0]["text"]


def decoded(prompt=PROMPT, max_tokens=12, seed=5, choice=0, stop=()):
    """What the decoder itself makes of the same request."""
    sampling = Sampling(temperature=1.0, seed=seed, choice=choice)
    request = Request(tiny.tokenizer().encode(prompt).ids, max_tokens, sampling, stop)
    (stream,), _ = make_decoder().generate([request])
    return stream


def test_a_whole_completion_is_the_decoders_text(client):
    answer = complete(client).json()
    expected = decoded()
    assert answer["choices"] == [
        {"index": 0, "text": expected.text, "finish_reason": expected.finish_reason, "logprobs": None}
    ]
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")


def test_streamed_pieces_join_to_the_whole_text_and_end_with_reason_and_done(client):
    *chunks, done = events(complete(client, stream=True))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == decoded().text
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert done == "[DONE]"


def test_the_same_seed_gives_the_same_text_and_no_seed_another(client):
    texts = [text_of(client, seed=seed) for seed in (7, 7, None, None)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_n_texts_are_the_choices_of_one_seed(client):
    choices = complete(client, n=2).json()["choices"]
    assert [choice["text"] for choice in choices] == [decoded(choice=0).text, decoded(choice=1).text]


def test_several_prompts_are_counted_prompt_by_prompt(client):
    choices = complete(client, prompt=["w1", "w2 w3"], n=2).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    expected = [decoded(prompt, choice=choice).text for prompt in ("w1", "w2 w3") for choice in (0, 1)]
    assert [choice["text"] for choice in choices] == expected


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]], [PROMPT]])
def test_a_prompt_may_be_token_ids_or_a_list(client, prompt):
    assert text_of(client, prompt=prompt) == decoded().text


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_never_part_of_the_text(client, stream):
    stop = decoded().text[9:12]
    answer = complete(client, stop=stop, stream=stream)
    chunks = events(answer)[:-1] if stream else [answer.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == decoded().text.split(stop)[0]
    assert choices[-1]["finish_reason"] == "stop"


def test_usage_counts_each_prompt_once_and_every_text(client):
    usage = complete(client, prompt=["w1", "w2 w3"], n=2).json()["usage"]
    assert usage == {"prompt_tokens": 3, "completion_tokens": 48, "total_tokens": 51}


def test_a_stream_reports_its_usage_on_request(client):
    *_, last, done = events(complete(client, stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == [] and done == "[DONE]"
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}


NOTHING_ASKED = {field: None for field in CompletionRequest.model_fields} | {"model": "tiny", "prompt": PROMPT}


def test_null_means_that_a_field_is_not_given(client):
    whole = complete(client, **NOTHING_ASKED | {"temperature": 0}).json()
    default = client.post("/v1/completions", json={"model": "tiny", "prompt": PROMPT, "temperature": 0}).json()
    assert whole["choices"] == default["choices"] and whole["usage"]["completion_tokens"] == 16
    assert (
        complete(client, **dict.fromkeys((*NEUTRAL, "logprobs", "anything"))).json()["choices"][0]["text"]
        == decoded().text
    )
    assert_refused(complete(client, prompt=None), 400, "prompt")
    assert_refused(complete(client, model=None), 400, "model")


@pytest.mark.parametrize("field", [field for field in NEUTRAL if field not in CompletionRequest.model_fields])
def test_what_is_not_done_is_refused_by_name_unless_it_asks_for_nothing(client, field):
    assert text_of(client, **{field: NEUTRAL[field]}) == decoded().text
    for value in (0.5, 2, True, False, "json", ["w1"], {"50": 2}):
        if value != NEUTRAL[field] or isinstance(value, bool) != isinstance(NEUTRAL[field], bool):
            assert_refused(complete(client, **{field: value}), 400, field)


@pytest.mark.parametrize(
    "field",
    ["prompt_logprobs", "guided", "max_completion_tokens", "messages", "logit_bas", "\ud800", "a" * 10_000, ""],
)
def test_a_field_that_we_do_not_know_is_refused_by_name(client, field):
    message = assert_refused(complete(client, **{field: 1}), 400)
    assert "not supported" in message and len(message) < 200
    assert message.startswith(field[:64] if field.isascii() else "\\ufffd")


def test_a_field_that_is_spelled_otherwise_here_says_how(client):
    assert "give max_tokens instead" in assert_refused(complete(client, max_completion_tokens=3), 400)
    assert "give stop instead" in assert_refused(complete(client, stop_sequences=["w3"]), 400)
    assert "give guided_grammar instead" in assert_refused(complete(client, grammar="root ::= [0-9]"), 400)


def test_an_unknown_stream_option_is_refused_by_name(client):
    options = {"include_usage": True, "include_obfuscation": True}
    message = assert_refused(complete(client, stream=True, stream_options=options), 400, "stream_options")
    assert message.startswith("stream_options.include_obfuscation: not supported")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"structured_outputs": {"regx": "a+"}}, "structured_outputs.regx: not supported; leave it out"),
        ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice.1: String should have at least 1"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: is needed and was not given"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema: is needed and was not given",
        ),
        ({"speculation": {"tree": [[0]], "dynamic": {}}}, "speculation.dynamic: not supported; leave it out"),
        ({"speculation": {"dynamic": {"depth": 1, "width": 2}}}, "speculation.dynamic.budget: is needed and was not"),
        ({"speculation": {"tree": [[0], [0, "a"]]}}, "speculation.tree.1.1: "),
        (
            {"speculation": {"tree": [[0], [0, 0, 0]]}},
            "speculation.tree: static tree holds (0, 0, 0) without its",
        ),
    ],
)
def test_a_fault_within_a_field_is_named_by_its_place(client, fields, sentence):
    (field,) = fields
    assert assert_refused(complete(client, **fields), 400, field).startswith(sentence)


@pytest.mark.parametrize("body", ["[]", '"text"', "1"])
def test_a_body_that_is_no_object_is_told_what_it_has_to_be(client, body):
    sentence = "the body has to be one JSON object, under the header `Content-Type: application/json`"
    assert assert_refused(post(client, body), 400) == sentence
    assert assert_refused(post(client, json.dumps(BODY), "text/plain"), 400) == sentence


WRONG = [-1] * 1000


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CompletionRequest, {"prompt": WRONG}),
        (CompletionRequest, {"prompt": [WRONG, WRONG]}),
        (CompletionRequest, {"prompt": ["", *WRONG][:64]}),
        (DetokenizeRequest, {"tokens": WRONG}),
        (ChatRequest, {"messages": WRONG}),
        (ChatRequest, {"messages": [{"role": "user", "content": WRONG}]}),
    ],
)
def test_a_list_is_refused_at_its_first_fault(model, fields):
    """A body has room for millions, and each fault would take its time and memory."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"model": "tiny"} | fields)
    assert refused.value.error_count() <= 2  # one of each kind that a union allows


def test_what_is_no_json_is_told_where(client):
    assert assert_refused(post(client, '{"model": }'), 400).startswith("the body is no JSON at character 10: ")


def test_speculation_may_be_off_for_a_request(client):
    assert text_of(client, speculation="off") == text_of(client, speculation="auto") == decoded().text
    assert_refused(complete(client, speculation="on"), 400, "speculation")


@pytest.mark.parametrize(
    "speculation",
    [
        {"tree": [[0], [1], [0, 0]]},
        {"tree": [[0], [0, 1.0], [0, 1.0, 0]]},
        {"dynamic": {"depth": 3, "width": 2, "budget": 4}},
    ],
)
def test_a_request_may_ask_for_a_tree_of_its_own_and_gets_the_same_text(speculation):
    drafting = tiny.decoder(tiny.llama(), tiny.llama(noise=0.05), Selector(ConfidenceScorer(), LIMITS))
    with serving(decoder=drafting, measures=True) as (client, _):
        answer = complete(client, speculation=speculation).json()
    assert answer["choices"][0]["text"] == decoded().text
    assert answer["metrics"]["speculative_decoding"]["num_spec_tokens"] in (2, 3)


@pytest.mark.parametrize(
    "speculation",
    [
        {}, [], 3, {"tree": []}, {"tree": [[]]}, {"tree": [[-1]]}, {"tree": [[True]]}, {"tree": [[0]], "depth": 3},
        {"dynamic": {"depth": 3, "width": 2}}, {"dynamic": {"depth": 0, "width": 2, "budget": 4}},
        {"tree": [[LIMITS.width]]}, {"tree": [[0] * depth for depth in range(1, LIMITS.max_depth + 2)]},
        {"tree": [[0, 1]]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_tree_or_too_large_a_one_is_refused(speculation):
    drafting = tiny.decoder(tiny.llama(), tiny.llama(noise=0.05), Selector(ConfidenceScorer(), LIMITS))
    with serving(decoder=drafting) as (client, _):
        assert_refused(complete(client, speculation=speculation), 400, "speculation")


def test_a_tree_is_refused_where_nothing_is_drafted(client):
    message = assert_refused(complete(client, speculation={"tree": [[0]]}), 400, "speculation", "invalid_value")
    assert message == "speculation asks for a tree, and nothing is drafted here; leave it out"


@pytest.mark.parametrize("field", sorted(WITHOUT_EFFECT))
def test_what_cannot_change_the_text_may_be_anything(client, field):
    assert text_of(client, **{field: {"any": ["thing"]}}) == decoded().text


def test_best_of_may_be_as_large_as_n(client):
    assert len(complete(client, n=2, best_of=2).json()["choices"]) == 2
    for fields in ({"best_of": 2}, {"n": 2, "best_of": 1}, {"n": "9" * 5000, "best_of": 2}):
        assert len(assert_refused(complete(client, **fields), 400)) < 200


def test_numbers_that_other_servers_take_are_taken(client):
    assert text_of(client, top_k=-1) == text_of(client, max_tokens=12.0, seed=5.0) == decoded().text
    assert len({text_of(client, seed=-1) for _ in range(3)}) == 3
    assert complete(client, temperature=2.5).status_code == 200


def test_a_token_beyond_the_vocabulary_is_refused_with_the_largest_one(client):
    for token in (tiny.VOCABULARY_SIZE, 10**400):
        message = assert_refused(complete(client, prompt=[1, token]), 400, "prompt")
        assert f"largest token id of this model is {tiny.VOCABULARY_SIZE - 1}" in message and len(message) < 200


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [""]},
        {"prompt": [[]]},
        {"prompt": [1, "w2"]},
        {"prompt": [True]},
        {"prompt": [-1]},
        {"prompt": [tiny.VOCABULARY_SIZE]},
        {"prompt": [10**30]},
        {"prompt": ["w1"] * 65},
        {"prompt": "w1 " * 300},
        {"prompt": " "},
        {"prompt": None},
        {"max_tokens": -1},
        {"logprobs": -1},
        {"logprobs": 21},
        {"logprobs": True},
        {"echo": 1},
        {"stream_options": {"include_usage": True}},
        {"max_tokens": 8193},
        {"max_tokens": 255},
        {"max_tokens": "3"},
        {"max_tokens": True},
        {"temperature": -0.1},
        {"temperature": 100.1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"n": 0},
        {"n": 9},
        {"seed": -2},
        {"seed": 2**63},
        {"seed": 1.5},
        {"stop": ""},
        {"stop": ["a"] * 5},
        {"stop": "a" * 257},
        {"stream": "yes"},
        {"stream": True, "stream_options": {"include_usage": 1}},
        {"model": 3},
        {"max_tokens": 16.5},
        {"temperature": 10**400},
        {"top_k": 1e300, "n": 1e300},
    ],
)
def test_a_bad_field_is_refused_in_the_envelope(client, fields):
    assert_refused(complete(client, **fields), 400)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '{"model": "tiny"}',
        '{"model": "tiny", "prompt": "\\ud800"}',
        '{"model": "tiny", "prompt": "w1", "stop": "\\udfff"}',
        '{"model": "tiny", "prompt": "w1", "temperature": NaN}',
        '{"model": "tiny", "prompt": "w1", "max_tokens": %s}' % ("9" * 5000),
        '{"model": "tiny", "prompt": %s}' % ("[" * 100_000),
        '{"model": "tiny", "prompt": %s}' % ("[" * 100_000 + "]" * 100_000),
        '{"model": "tiny", "prompt": "w1", "seed": %s}' % ("[" * 900 + "]" * 900),
        '{"model": "tiny", "prompt": "w1", "tools": %s}' % ("[" * 900 + "]" * 900),
        '{"model": "tiny", "prompt": "w1", "min_p": NaN}',
        '{"model": "tiny", "prompt": "w1", "seed": 1e999}',
        '{"model": "tiny", "prompt": "w1\0"}',
        '{"model": "tiny", "prompt": "é"}'.encode("latin-1"),
        '{"model": "tiny", "prompt": {"a": 1}}',
        "null",
        "[" + '{"model": "tiny"},' * 100_000,
    ],
)
def test_a_bad_body_is_refused_in_the_envelope(client, body):
    assert_refused(post(client, body), 400)


def test_a_body_of_another_content_type_is_refused_in_the_envelope(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert_refused(post(client, json.dumps(BODY), kind), 400)


@pytest.mark.parametrize("text", ["w1 \0 w2", "\ufeffw1", "w1\u2028w2"])
def test_characters_that_are_seldom_sent_are_text(client, text):
    assert complete(client, prompt=text).status_code == 200


def test_a_byte_order_mark_before_the_body_is_passed_over(client):
    answer = post(client, b"\xef\xbb\xbf" + json.dumps(BODY).encode())
    assert answer.json()["choices"][0]["text"] == decoded().text


def test_an_unknown_route_method_and_model_are_refused_in_the_envelope(client):
    for path in ("/", "/v1/nothing", "/v1/completions/", "/v1/models/other/one"):
        assert_refused(client.get(path), 404)
    assert "POST /v1/completions" in assert_refused(client.post("/v1/completions/", json=BODY), 404)
    assert assert_refused(client.get("/v1/completions"), 405) == "Method Not Allowed; this path takes POST"
    assert client.options("/v1/completions").headers["Allow"] == "POST"
    for name in ("other", "", "\ud800"):
        assert_refused(complete(client, model=name), 404)


def test_a_body_that_is_too_large_is_refused_in_the_envelope(client):
    assert_refused(complete(client, prompt="a" * MAX_BODY_BYTES), 413)


def test_health_and_the_model_are_reported(client):
    assert client.get("/health").json() == {"status": "ok"}
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny" and client.get("/v1/models/tiny").json() == model
    assert [client.head(path).status_code for path in ("/health", "/v1/models", "/v1/models/tiny")] == [200] * 3


@pytest.mark.parametrize("path", ["/v1/models/models/of/somebody", "/v1/models/models%2Fof%2Fsomebody"])
def test_a_model_whose_name_is_a_path_is_found_by_it(path):
    worker = Worker(make_decoder(), max_batch=1, max_queue=1, totals=Totals())
    app = make_app(worker, name="models/of/somebody")
    assert TestClient(app).get(path).json()["id"] == "models/of/somebody"


def test_a_full_queue_says_when_to_retry():
    worker = Worker(
        make_decoder(), max_batch=1, max_queue=1, totals=Totals()
    )  # not started, so what waits keeps waiting

    async def fill():
        await worker.submit([Request([1], 1, Sampling())])

    asyncio.run(fill())
    answer = complete(TestClient(make_app(worker)))
    assert_refused(answer, 503)
    assert answer.headers["Retry-After"] == "1"


def failing_at(steps):
    """An observer that fails at these steps, counted from 1."""
    seen = []

    def observe(record):
        seen.append(record)
        if len(seen) in steps:
            raise RuntimeError("this step was made to fail")

    return observe


def test_a_failing_decoder_ends_the_stream_with_an_error_and_the_next_request_works():
    with serving(failing_at({3})) as (client, _):
        *chunks, error, done = events(complete(client, stream=True))
        assert len(chunks) == 2 and error["error"]["type"] == "server_error" and done == "[DONE]"
        assert text_of(client) == decoded().text


def test_a_failing_decoder_answers_a_whole_completion_with_500():
    with serving(failing_at({3})) as (client, _):
        assert_refused(complete(client), 500)


MARKED = {"prompt": [1] * 30, "max_tokens": 20}  # the only text of 50 tokens below


def failing_model(max_length=35):
    """It fails once the marked text is longer than this."""
    return FailingModel(tiny.llama(), marked=50, max_length=max_length)


def ask_all(worker, asked):
    """What became of each list of requests, sent at once: the pieces of its texts and its error."""

    async def read(requests):
        pieces, error = [""] * len(requests), None
        try:
            job = await worker.submit(requests)
            async for piece in job.pieces():
                pieces[piece.choice] += piece.text
        except ServeError as failed:
            error = failed
        return pieces, error

    async def ask():
        return await asyncio.gather(*map(read, asked))

    return asyncio.run(ask())


@pytest.mark.parametrize("max_length", [-1, 10, 35])
def test_a_request_that_fails_ends_alone_with_its_own_error(max_length):
    """It fails to join, fails at its first tree, fails amid the others'."""
    prompts, totals = [[1, 2, 3], [4, 5], [6] * 9, [7]], Totals()
    innocent = [[Request(prompt, 25, Sampling(seed=7, choice=choice)) for choice in (0, 1)] for prompt in prompts]
    failing = [Request([1] * 30, 20, Sampling(seed=1)), Request([2], 100, Sampling(seed=2))]
    with serving(model=failing_model(max_length), totals=totals, max_batch=5) as (client, worker):
        ended = ask_all(worker, [innocent[0], failing, *innocent[1:]])
        assert_refused(complete(client, **MARKED), 500)
        assert text_of(client) == decoded().text
    (_, error), innocent_ended = ended.pop(1), ended
    assert error is not None
    cause = "MemoryError: there is no room for this text" if max_length < 0 else "RuntimeError: this text was made"
    assert error.status == 500 and cause in error.envelope.error.message
    for requests, (texts, no_error) in zip(innocent, innocent_ended, strict=True):
        assert no_error is None
        assert texts == [make_decoder().generate([request])[0][0].text for request in requests]
    assert totals.requests == 7
    assert 8 * 25 + 12 <= totals.completion_tokens < 8 * 25 + 12 + 20 + 100 + 20


def test_a_request_that_fails_says_so_in_its_stream():
    with serving(model=failing_model()) as (client, _):
        *chunks, error, done = events(complete(client, stream=True, **MARKED))
        assert chunks and "made to fail" in error["error"]["message"] and done == "[DONE]"


def test_a_server_that_stops_while_requests_are_decoded_one_by_one_ends_them_all():
    workers, sizes = [], []

    def observe(record):
        sizes.append(len(record.num_emitted))
        workers[0].stop()

    with serving(observe, model=FailingModel(tiny.llama(), crowded=2)) as (_, worker):
        workers.append(worker)
        ((_, error),) = ask_all(worker, [[Request([number], 250, Sampling()) for number in range(6)]])
    assert error is not None and "stopping" in error.envelope.error.message
    assert sizes == [1]


class BrokenModel(FailingModel):
    """One that cannot begin anew once it has been opened for a batch."""

    opened = 0

    def open(self, num_slots, capacity, session=None):
        super().open(num_slots, capacity, session)
        self.opened += 1
        if self.opened > 1:
            raise RuntimeError("the device is gone")


def test_a_server_that_can_no_longer_decode_ends_every_request_with_an_error():
    with serving(model=BrokenModel(tiny.llama(), crowded=1)) as (client, _):
        assert complete(client).status_code >= 500
        assert_refused(complete(client), 503)
        assert_refused(client.get("/health"), 503)


def test_a_stopping_server_ends_its_stream_with_an_error_and_takes_no_more():
    workers = []
    with serving(lambda record: workers[0].stop()) as (client, worker):
        workers.append(worker)
        *_, error, done = events(complete(client, stream=True))
        assert "stopping" in error["error"]["message"] and done == "[DONE]"
        assert_refused(complete(client), 503)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_worker(stream):
    totals = Totals()
    started = threading.Event()

    def observe(record):
        started.set()
        sleep(0.02)  # so that the text lasts far longer than the word that its reader has left

    with listening(observe, totals=totals) as (address, _, _):
        body = BODY | {"max_tokens": 240, "stream": stream}
        asyncio.run(leave(f"{address}/v1/completions", body, started))
        assert httpx.post(f"{address}/v1/completions", json=BODY | {"max_tokens": 1}).status_code == 200
    assert totals.requests == 2 and totals.completion_tokens < 240


async def leave(url, body, started):
    """Ask, and disconnect once decoding has begun."""
    async with httpx.AsyncClient() as client:
        answer = asyncio.create_task(client.post(url, json=body))
        await asyncio.to_thread(started.wait)
        answer.cancel()


def test_a_port_in_use_is_one_sentence_before_any_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port), "--pair.target", "no/such/model"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"treewright serve: port {port} on 127.0.0.1 ")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_an_address_that_others_reach_is_refused(host):
    with pytest.raises(InputError, match="loopback address"):
        listen(host, 0)


def test_a_host_without_address_is_refused():
    with pytest.raises(InputError, match="has no address here"):
        listen("a..b", 0)


def test_requests_are_decoded_side_by_side_and_each_gets_its_own_text():
    sizes = []
    with serving(lambda record: sizes.append(len(record.num_emitted)), max_batch=3) as (client, _):
        choices = complete(client, prompt=["w1", "w2 w3", PROMPT], n=2).json()["choices"]
    expected = [decoded(prompt, choice=choice).text for prompt in ("w1", "w2 w3", PROMPT) for choice in (0, 1)]
    assert [choice["text"] for choice in choices] == expected
    assert max(sizes) == 3


def test_a_short_request_does_not_wait_for_the_long_one_before_it():
    totals = Totals()

    async def ask(worker):
        jobs = [await worker.submit([Request([1], max_tokens, Sampling(temperature=0.0))]) for max_tokens in (200, 3)]
        ended = []

        async def read(job):
            async for _ in job.pieces():
                pass
            ended.append(jobs.index(job))

        await asyncio.gather(*map(read, jobs))
        return ended

    with Worker(make_decoder(), max_batch=2, max_queue=8, totals=totals) as worker:
        assert asyncio.run(ask(worker)) == [1, 0]
    assert (totals.requests, totals.completion_tokens) == (2, 203)
