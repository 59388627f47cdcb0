"""The server over the tiny target: its application without a socket, or all of it."""

import json
import threading
from contextlib import contextmanager
from typing import Any, NamedTuple

import tiny
from fastapi.testclient import TestClient
from treewright.runtime.constraints.constrain import Constrainer
from treewright.runtime.decoder import Decoder
from treewright.runtime.serve.access import Access
from treewright.runtime.serve.address import host_names, listen, url
from treewright.runtime.serve.app import create_app
from treewright.runtime.serve.command import make_server
from treewright.runtime.serve.config import ServerConfig
from treewright.runtime.serve.served_model import ServedModel
from treewright.runtime.serve.server import Server
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

PROMPT = "w1 w2 w3"
BODY = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "seed": 5}
# One word for each role, which stands before what was said.
TEMPLATE = """
{%- if messages[-1].role != "user" %}{{ raise_exception("the last message is the user's") }}{% endif %}
{%- for message in messages %}
{{- {"system": "w30", "user": "w31", "assistant": "w32"}[message.role] + " " + message.content + " " }}
{%- endfor %}w32"""


def make_decoder(observer=None, model=None):
    return Decoder(Target(model or tiny.llama()), WalkVerifier(), tiny.detokeniser(), frozenset(), observer=observer)


def make_model(name="tiny", template: str | None = TEMPLATE, tokenizer=None):
    words = tiny.words(tokenizer)
    words.fast.chat_template = template
    constrainer = Constrainer(words, frozenset(), tiny.VOCABULARY_SIZE)
    return ServedModel(name, words, constrainer, vocabulary_size=tiny.VOCABULARY_SIZE, context_length=256)


def make_app(worker, **model: Any):
    return create_app(worker, make_model(**model))


@contextmanager
def serving(observer=None, totals=None, keep_text=None, max_batch=4, model=None, decoder=None, measures=False):
    """A client of an app with a running worker; `observer` is called after every step, on the decode thread."""
    decoder = decoder or make_decoder(observer, model)
    worker = Worker(decoder, max_batch=max_batch, max_queue=64, totals=totals or Totals(), keep_text=keep_text)
    app = create_app(worker, make_model(), measures=measures)
    with worker, TestClient(app, raise_server_exceptions=False) as client:
        yield client, worker


class Gate:
    """An observer that stops the decode thread behind its first step until it is opened."""

    def __init__(self):
        self.opened = threading.Event()

    def __call__(self, record):
        assert self.opened.wait(timeout=60)


class Listening(NamedTuple):
    """A whole server in a thread of this process; a signal is `server.handle_exit`."""

    address: str
    server: Server
    thread: threading.Thread


@contextmanager
def listening(observer=None, config=ServerConfig(), keys=(), max_batch=4, totals=None, decoder=None, write_line=None):
    worker = Worker(
        decoder or make_decoder(observer),
        max_batch=max_batch,
        max_queue=config.max_queue,
        max_wait=config.max_wait,
        totals=totals or Totals(),
    )
    with listen("127.0.0.1", 0) as listener:
        access = Access(keys, (*host_names("127.0.0.1", listener), *config.allowed_hosts), config.allowed_origins)
        server = make_server(worker, make_model(), config, access, write_line=write_line)
        with worker:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield Listening(url(listener), server, thread)
            finally:
                server.should_exit = server.force_exit = True
                thread.join()


def complete(client, **fields):
    return post(client, json.dumps(BODY | fields))


def post(client, body, content_type="application/json"):
    """A body as it is: half a surrogate pair, which no client encodes, passes escaped."""
    return client.post("/v1/completions", content=body, headers={"Content-Type": content_type})


def chat(client, messages: Any = ({"role": "user", "content": PROMPT},), **fields):
    body = {"model": "tiny", "messages": messages, "max_tokens": 12, "seed": 5} | fields
    return client.post("/v1/chat/completions", json=body)


def events(answer) -> list[Any]:
    """The JSON of a streamed answer's events; `[DONE]`, the last, stays text."""
    lines = answer.text.split("\n\n")
    assert lines.pop() == ""
    contents = [line.removeprefix("data: ") for line in lines]
    return [content if content == "[DONE]" else json.loads(content) for content in contents]


def assert_refused(answer, status, field=None, code: str | None = ""):
    """Returns the message, of an error that names the `field`, and has the `code` if one is given."""
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert field is None or (error["param"] == field and error["message"].startswith(field))
    assert code in ("", error["code"])
    return error["message"]
