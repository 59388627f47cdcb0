"""The server gives the decoder's own text, one envelope for every error, and never a silently cut stream."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from time import sleep

import httpx
import pytest
import tiny
import uvicorn
from fastapi.testclient import TestClient
from serving import BODY, PROMPT, complete, make_app, make_decoder, serving
from treewright import cli
from treewright.controller.errors import InputError
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.body_limit import MAX_BODY_BYTES
from treewright.runtime.serve.command import listen
from treewright.runtime.serve.worker import Totals, Worker


@pytest.fixture(scope="module")
def client():
    with serving() as (client, _):
        yield client


def text_of(client, **fields):
    return complete(client, **fields).json()["choices"][0]["text"]


def events(answer):
    """What a streamed answer's events carry; `[DONE]`, the last, stays text."""
    lines = answer.text.split("\n\n")
    assert lines.pop() == ""
    contents = [line.removeprefix("data: ") for line in lines]
    return [content if content == "[DONE]" else json.loads(content) for content in contents]


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
def test_a_prompt_may_come_as_token_ids_or_in_a_list(client, prompt):
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


def test_a_stream_tells_its_usage_when_asked(client):
    *_, last, done = events(complete(client, stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == [] and done == "[DONE]"
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}


@pytest.mark.parametrize(
    ("field", "neutral", "value"),
    [
        ("presence_penalty", 0.0, 0.5),
        ("frequency_penalty", 0, -1),
        ("repetition_penalty", 1.0, 1.1),
        ("min_p", 0, 0.05),
        ("logit_bias", {}, {"50": 2}),
    ],
)
def test_what_would_change_logits_along_the_path_is_refused_by_name(client, field, neutral, value):
    assert text_of(client, **{field: neutral}) == text_of(client, **{field: None}) == decoded().text
    answer = complete(client, **{field: value})
    assert_refused(answer, 400)
    assert answer.json()["error"]["param"] == field


def test_fields_we_do_not_know_are_ignored(client):
    assert text_of(client, user="somebody", best_of=1) == decoded().text


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
        {"max_tokens": 0},
        {"max_tokens": 8193},
        {"max_tokens": 255},
        {"max_tokens": "3"},
        {"max_tokens": True},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"n": 0},
        {"n": 9},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.5},
        {"stop": ""},
        {"stop": ["a"] * 5},
        {"stop": "a" * 257},
        {"stream": "yes"},
        {"stream_options": {"include_usage": 1}},
        {"model": 3},
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
    ],
)
def test_a_bad_body_is_refused_in_the_envelope(client, body):
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert_refused(answer, 400)


def assert_refused(answer, status):
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and error["type"] == ("server_error" if status >= 500 else "invalid_request_error")


def test_an_unknown_route_method_and_model_are_refused_in_the_envelope(client):
    assert_refused(client.get("/v1/nothing"), 404)
    assert_refused(client.get("/v1/completions"), 405)
    assert_refused(complete(client, model="other"), 404)


def test_a_body_that_is_too_large_is_refused_in_the_envelope(client):
    assert_refused(complete(client, prompt="a" * MAX_BODY_BYTES), 413)


def test_health_and_the_model_are_told(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]


def test_a_full_queue_says_when_to_come_again():
    worker = Worker(
        make_decoder(), max_batch=1, max_queue=1, totals=Totals()
    )  # not started, so what waits keeps waiting

    async def fill():
        worker.submit([Request([1], 1, Sampling())])

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
            raise RuntimeError("this step was told to fail")

    return observe


def test_a_failing_decoder_ends_the_stream_with_an_error_and_the_next_request_works():
    with serving(failing_at({3})) as (client, _):
        *chunks, error, done = events(complete(client, stream=True))
        assert len(chunks) == 2 and error["error"]["type"] == "server_error" and done == "[DONE]"
        assert text_of(client) == decoded().text


def test_a_failing_decoder_answers_a_whole_completion_with_500():
    with serving(failing_at({3})) as (client, _):
        assert_refused(complete(client), 500)


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

    with (
        Worker(make_decoder(observe), max_batch=2, max_queue=8, totals=totals) as worker,
        listening(make_app(worker)) as address,
    ):
        body = BODY | {"max_tokens": 240, "stream": stream}
        asyncio.run(leave(f"{address}/v1/completions", body, started))
        assert httpx.post(f"{address}/v1/completions", json=BODY | {"max_tokens": 1}).status_code == 200
    assert totals.requests == 2 and totals.completion_tokens < 240


async def leave(url, body, started):
    """Ask, and hang up once decoding has begun."""
    async with httpx.AsyncClient() as client:
        answer = asyncio.create_task(client.post(url, json=body))
        await asyncio.to_thread(started.wait)
        answer.cancel()


@contextmanager
def listening(app):
    """The app behind a real server."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_port_in_use_is_one_sentence_before_any_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port), "--pair.target", "no/such/model"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"treewright serve: port {port} on 127.0.0.1 ")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_an_address_that_others_reach_is_refused(host):
    with pytest.raises(InputError, match="loopback"):
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
        jobs = [worker.submit([Request([1], max_tokens, Sampling(temperature=0.0))]) for max_tokens in (200, 3)]
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
