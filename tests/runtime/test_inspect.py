"""`/inspect` tells a generation as it was: its text, its trees, its predictions; and its page runs nothing else."""

import asyncio
import json
import re
from base64 import b64encode
from contextlib import contextmanager
from hashlib import sha256
from math import fsum, isclose
from time import sleep

import pytest
import tiny
from fastapi.testclient import TestClient
from serving import PROMPT, make_app, make_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from treewright.controller.contract import FIXED, IID_PATHS
from treewright.controller.policies.delayed import delayed_tree
from treewright.controller.policies.eagle2 import eagle2
from treewright.controller.policies.sequoia import static_selector
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Parts
from treewright.runtime.engines.transformers.detokeniser import TokenizerDetokeniser
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.inspect.events import MAX_PROMPT
from treewright.runtime.serve.inspect.routes import add_inspect
from treewright.runtime.serve.inspect.steps import StepTeller
from treewright.runtime.serve.worker import Totals, Worker

BODY = {"prompt": PROMPT, "max_tokens": 30, "temperature": 0.8, "seed": 5}
LIMITS = TreeLimits(max_depth=3, width=2, frontier=2, budget=5)


def encoded(text):
    return tiny.tokenizer().encode(text).ids


def speculating(policy=None, **options):
    return tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), policy or eagle2(LIMITS), **options)


@contextmanager
def inspecting(decoder=None, totals=None):
    decoder = decoder or speculating()
    worker = Worker(decoder, max_batch=4, max_queue=8, totals=totals or Totals())
    app = make_app(worker)
    add_inspect(app, worker, make_model())
    with worker, TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    with inspecting() as client:
        yield client


def told(client, **fields):
    """The events of a generation."""
    answer = client.post("/inspect/steps", json=BODY | fields)
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]


def plain_text(**fields):
    body = BODY | fields
    request = Request(
        encoded(body["prompt"]),
        body["max_tokens"],
        Sampling(temperature=body["temperature"], seed=body["seed"]),
    )
    (stream,), _ = tiny.decoder(tiny.llama()).generate([request])
    return stream


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_steps_come_to_the_text_of_the_seed_and_to_its_usage(client, temperature):
    begin, *steps, end = told(client, temperature=temperature)
    expected = plain_text(temperature=temperature)
    emitted = [token for step in steps for token in step["emitted"]]
    assert [begin["kind"], {step["kind"] for step in steps}, end["kind"]] == ["begin", {"step"}, "end"]
    assert [token["token"] for token in emitted] == expected.token_ids
    assert "".join(token["text"] for token in emitted) == end["text"] == expected.text
    assert end["usage"] == {"prompt_tokens": 3, "completion_tokens": 30, "total_tokens": 33}
    assert (begin["scheme"], begin["verifier"], begin["seed"], begin["model"]) == ("coupled", "walk", 5, "tiny")
    assert len(steps) < 30 and end["finish_reason"] == "length"


def test_what_was_accepted_is_a_path_of_kept_nodes_and_what_was_emitted(client):
    _, *steps, _ = told(client)
    for step in steps:
        nodes, path = step["nodes"], [0]
        for place, node in enumerate(nodes):
            assert node["parent"] < place and (place == 0 or node["depth"] == nodes[node["parent"]]["depth"] + 1)
            assert node["kept"] <= (place == 0 or nodes[node["parent"]]["kept"])
            if node["accepted"]:
                assert node["kept"] and node["parent"] == path[-1]
                path.append(place)
        block = [(nodes[place]["token"], depth) for depth, place in enumerate(path) if depth]
        block.append((step["next_token"], 0))
        assert [(token["token"], token["depth"]) for token in step["emitted"]] == block[: len(step["emitted"])]
        assert step["accepted"] == len(path) - 1
    assert any(not node["kept"] for step in steps for node in step["nodes"])
    assert {token["depth"] for step in steps for token in step["emitted"]} == {0, 1, 2, 3}


def test_each_step_begins_where_the_one_before_ended(client):
    begin, *steps, _ = told(client)
    position, last = begin["prompt_tokens"] - 1, 3
    for number, step in enumerate(steps, start=1):
        assert (step["step"], step["position"], step["nodes"][0]["token"]) == (number, position, last)
        position, last = position + len(step["emitted"]), step["emitted"][-1]["token"]


def test_totals_and_predictions_are_sums_over_the_steps(client):
    _, *steps, end = told(client)
    totals = steps[-1]["totals"]
    drafted = [node for step in steps for node in step["nodes"][1:]]
    kept = [node for node in drafted if node["kept"]]
    assert (totals["steps"], totals["tokens"]) == (len(steps), end["usage"]["completion_tokens"])
    assert (totals["drafted"], totals["kept"]) == (len(drafted), len(kept))
    assert totals["accepted"] == sum(node["accepted"] for node in kept) == totals["predicted_accepted"]
    assert isclose(totals["predicted"], fsum(node["predicted"] for node in kept), rel_tol=1e-3)  # five digits are sent
    assert isclose(totals["block_efficiency"], 1 + totals["accepted"] / len(steps), rel_tol=1e-4)
    for step in steps:
        above = [step["nodes"][node["parent"]]["predicted"] for node in step["nodes"][1:]]
        assert all(node["predicted"] <= of_parent for node, of_parent in zip(step["nodes"][1:], above, strict=True))
        assert min(step["times"].values()) >= 0 and step["times"]["target"] > 0


@pytest.mark.parametrize(
    ("decoder", "scheme"),
    [
        (lambda: speculating(static_selector([(0,), (1,), (0, 0)]), scheme=FIXED), "fixed"),
        (lambda: speculating(delayed_tree(2, 1, 2), scheme=IID_PATHS, verifier="specinfer"), "iid-paths"),
        (lambda: tiny.decoder(tiny.llama()), None),
    ],
    ids=["static", "sampled", "plain"],
)
def test_where_nothing_is_predicted_nothing_is_told_to_be(decoder, scheme):
    with inspecting(decoder()) as client:
        begin, *steps, end = told(client)
    assert begin["scheme"] == scheme and end["usage"]["completion_tokens"] == 30
    assert all(step["predicted"] is None for step in steps)
    assert {node["predicted"] for step in steps for node in step["nodes"]} == {None}
    assert steps[-1]["totals"]["predicted"] == 0
    assert all((len(step["nodes"]) > 1) == (scheme is not None) for step in steps[:-1])


def test_a_random_seed_is_told_and_gives_the_same_text_again(client):
    begin, *_, end = told(client, seed=-1)
    assert told(client, seed=begin["seed"])[-1]["text"] == end["text"]


def test_inspecting_is_a_request_like_others():
    totals = Totals()
    with inspecting(totals=totals) as client:
        told(client)
        answer = client.post("/v1/completions", json=BODY | {"model": "tiny"})
        assert answer.json()["choices"][0]["text"] == plain_text().text
    assert (totals.requests, totals.completion_tokens) == (2, 60)


def test_a_request_that_fails_ends_its_events_with_the_error():
    decoder = speculating()

    def fail(record):
        raise RuntimeError("this step was made to fail")

    decoder._loop = decoder._loop._replace(observer=fail)
    with inspecting(decoder) as client:
        begin, *_, error = told(client)
    assert begin["kind"] == "begin" and "decoding failed" in error["error"]["message"]


def test_a_client_that_leaves_frees_the_worker():
    totals, decoder = Totals(), speculating()
    decoder._loop = decoder._loop._replace(observer=lambda record: sleep(0.01))  # the text outlasts its reader
    worker = Worker(decoder, max_batch=1, max_queue=1, totals=totals)
    app = make_app(worker)
    add_inspect(app, worker, make_model())

    async def leave():
        body, told_something = json.dumps(BODY | {"max_tokens": 240}).encode(), asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await told_something.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body"):
                told_something.set()

        scope = {"type": "http", "method": "POST", "path": "/inspect/steps", "query_string": b""}
        await app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, send)

    with worker:
        asyncio.run(leave())
    assert totals.requests == 1 and totals.completion_tokens < 240


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["w1"]}, "prompt"),
        ({"prompt": "w" * (MAX_PROMPT + 1)}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 513}, "max_tokens"),
        ({"max_tokens": 300}, "prompt"),  # beyond the context
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
    ],
    ids=str,
)
def test_what_cannot_be_inspected_is_refused_in_the_envelope(client, fields, named):
    answer = client.post("/inspect/steps", json=BODY | fields)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_other_methods_are_refused_in_the_envelope(client):
    for answer, methods in ((client.post("/inspect"), "GET, HEAD"), (client.get("/inspect/steps"), "POST")):
        assert answer.status_code == 405
        assert answer.json()["error"]["message"].endswith(f"this path takes {methods}")
    unknown = client.get("/inspect/page.js")
    assert unknown.status_code == 404 and "POST /inspect/steps" in unknown.json()["error"]["message"]


def test_without_the_option_there_is_no_such_route():
    worker = Worker(speculating(), max_batch=1, max_queue=1, totals=Totals())
    client = TestClient(make_app(worker))
    assert client.get("/inspect").status_code == client.post("/inspect/steps", json=BODY).status_code == 404


def test_the_page_runs_its_own_script_and_nothing_else(client):
    answer = client.get("/inspect")
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert policy[rule] == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
        assert len(content) > 1000 and answer.text.count(f"<{tag}") == 1
    assert (policy["default-src"], policy["connect-src"], policy["trusted-types"]) == ("'none'", "'self'", "'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.head("/inspect").headers["Content-Length"] == answer.headers["Content-Length"]


def test_the_page_makes_no_markup_of_text_and_asks_nobody_else(client):
    page = client.get("/inspect").text
    for hazard in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick"):
        assert hazard not in page
    assert re.findall(r"https?://[^\"' ]+", page) == ["http://www.w3.org/2000/svg"]


def test_a_tokens_markup_stays_text_in_a_line_of_json():
    words = {f"</script>\n\n<b>{token}": token for token in range(tiny.VOCABULARY_SIZE)}
    detokeniser = TokenizerDetokeniser(Tokenizer(WordLevel(words, unk_token=next(iter(words)))))
    teller, lines = StepTeller(Parts(None, "walk", detokeniser, frozenset()), [0]), []
    request = Request(
        [1], 4, Sampling(seed=3), observer=lambda *step: lines.append(teller.step(*step).model_dump_json())
    )
    (stream,), _ = tiny.decoder(tiny.llama()).generate([request])
    assert len(lines) == 4 and not any("\n" in line for line in lines)
    shown = [token["text"].strip() for line in lines for token in json.loads(line)["emitted"]]
    assert shown == [f"</script>\n\n<b>{token}" for token in stream.token_ids]
