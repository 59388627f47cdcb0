"""The server's application over the tiny target, without a socket."""

import json
from contextlib import contextmanager

import tiny
from fastapi.testclient import TestClient
from treewright.runtime.constraints.constrain import Constrainer
from treewright.runtime.decoder import Decoder
from treewright.runtime.serve.app import create_app
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
        Constrainer(tiny.words(), frozenset(), tiny.VOCABULARY_SIZE),
        vocabulary_size=tiny.VOCABULARY_SIZE,
        model_name="tiny",
    )


@contextmanager
def serving(observer=None, totals=None, keep_text=None, max_batch=4, model=None):
    """A client of an app with a running worker; `observer` is called after every step, on the decode thread."""
    decoder = make_decoder(observer, model)
    worker = Worker(decoder, max_batch=max_batch, max_queue=8, totals=totals or Totals(), keep_text=keep_text)
    with worker, TestClient(make_app(worker), raise_server_exceptions=False) as client:
        yield client, worker


def complete(client, **fields):
    return post(client, json.dumps(BODY | fields))


def post(client, body, content_type="application/json"):
    """A body as it is: half a surrogate pair, which no client encodes, passes escaped."""
    return client.post("/v1/completions", content=body, headers={"Content-Type": content_type})
