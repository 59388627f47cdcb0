"""The server over the tiny target: its application without a socket, or all of it."""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import tiny
from fastapi.testclient import TestClient
from treewright.runtime.decoder import Decoder
from treewright.runtime.serve.access import Access
from treewright.runtime.serve.app import create_app
from treewright.runtime.serve.command import host_names, listen, make_server, url
from treewright.runtime.serve.config import ServerConfig
from treewright.runtime.serve.server import Server
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

PROMPT = "w1 w2 w3"
BODY = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "seed": 5}


def make_decoder(observer=None, model=None):
    return Decoder(Target(model or tiny.llama()), WalkVerifier(), tiny.detokeniser(), frozenset(), observer=observer)


def make_app(worker):
    return create_app(
        worker,
        lambda text: tiny.tokenizer().encode(text).ids,
        vocabulary_size=tiny.VOCABULARY_SIZE,
        model_name="tiny",
    )


@contextmanager
def serving(observer=None, totals=None, keep_text=None, max_batch=4, model=None):
    """A client of an app with a running worker; `observer` is called after every step, on the decode thread."""
    decoder = make_decoder(observer, model)
    worker = Worker(decoder, max_batch=max_batch, max_queue=64, totals=totals or Totals(), keep_text=keep_text)
    with worker, TestClient(make_app(worker), raise_server_exceptions=False) as client:
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
def listening(observer=None, config=ServerConfig(), keys=(), max_batch=4, totals=None):
    pair = tiny.pair()
    worker = Worker(
        make_decoder(observer),
        max_batch=max_batch,
        max_queue=config.max_queue,
        max_wait=config.max_wait,
        totals=totals or Totals(),
    )
    with listen("127.0.0.1", 0) as listener:
        access = Access(keys, config.allowed_hosts or host_names("127.0.0.1", listener), config.allowed_origins)
        server = make_server(worker, replace(pair, config=replace(pair.config, target="tiny")), config, access)
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
