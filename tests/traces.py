"""Small trace folders of the tiny pair, made with the collector's own parts."""

from dataclasses import asdict

import numpy as np
import tiny
from treewright.collect.envelope import EnvelopeConfig, grow_envelopes
from treewright.collect.label import label_text
from treewright.collect.text import Text
from treewright.collect.trace import TraceFolder, TraceHeader
from treewright.controller.contract import COUPLED, FIXED
from treewright.runtime.request import Request
from treewright.runtime.schemes.ranked import get_ranked_scheme

WIDTH = 3


def header(**changes) -> TraceHeader:
    settings = {
        "pair": "tiny",
        "scheme": "coupled",
        "tokenizer_sha256": "0" * 64,
        "width": WIDTH,
        "command": {"seed": 1},
    }
    return TraceHeader(**settings | changes)


def rows_of(request: Request, token_ids, document: str, target, drafter, scheme=COUPLED, draws=1):
    """(text row, position rows) of one written text."""
    tokens = np.array([*request.prompt_ids, *token_ids])
    sampling, prompt_length = request.sampling, len(request.prompt_ids)
    rows, num_ties = label_text(target, drafter, tokens, prompt_length, sampling, scheme, WIDTH, draws)
    text = Text(f"{sampling.seed:08d}", "toy", document, tokens.tolist(), prompt_length, sampling, decode_ms=1.0)
    shared = {"text_id": text.text_id, "document": document}
    shared |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return text.row(num_ties), [shared | row for row in rows]


def envelopes_of(request: Request, token_ids, document: str, drafter, config: EnvelopeConfig):
    """Node rows of one written text, under every scheme of the configuration."""
    tokens = np.array([*request.prompt_ids, *token_ids])
    shared = {"text_id": f"{request.sampling.seed:08d}", "document": document}
    grown = [
        grow_envelopes(
            drafter, tokens, len(request.prompt_ids), request.sampling, get_ranked_scheme(scheme), WIDTH, config
        )
        for scheme in config.schemes
    ]
    return [shared | row for rows in grown for row in rows]


def write(
    folder,
    count=4,
    temperature=0.8,
    max_tokens=40,
    draws=1,
    envelopes=EnvelopeConfig(),
    scheme=COUPLED,
    enveloped=None,
) -> TraceFolder:
    """A folder of `count` plainly written texts, one document each, in shards of two; all of them with envelopes if
    there are any, or those `enveloped` by number."""
    requests = tiny.requests(count, temperature, max_tokens)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    streams, _ = tiny.decoder(target).generate(requests)
    command = {"seed": 1, "envelopes": asdict(envelopes)}
    with TraceFolder.create(folder, header(command=command, scheme=scheme.name), shard_texts=2) as traces:
        for number, (request, stream) in enumerate(zip(requests, streams, strict=True)):
            document = f"doc {number}"
            text, positions = rows_of(request, stream.token_ids, document, target, drafter, scheme, draws)
            grow = number in enveloped if enveloped is not None else envelopes.texts > 0
            nodes = envelopes_of(request, stream.token_ids, document, drafter, envelopes) if grow else []
            traces.append({"texts": [text], "positions": positions, "nodes": nodes})
        traces.finish()
    return traces


def write_enveloped(folder, temperatures=(0.8,), max_tokens=24, scheme=COUPLED) -> TraceFolder:
    """A folder of one text per temperature, one document each and two domains, with envelopes under both schemes."""
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    config = EnvelopeConfig(len(temperatures), max_depth=4, frontier=6)
    command = {"seed": 1, "envelopes": {"texts": config.texts, "schemes": ["coupled", "fixed"]}}
    with TraceFolder.create(folder, header(command=command, scheme=scheme.name)) as traces:
        for number, temperature in enumerate(temperatures):
            request = tiny.requests(number + 1, temperature, max_tokens)[number]
            (stream,), _ = tiny.decoder(target).generate([request])
            text, positions = rows_of(request, stream.token_ids, f"doc {number}", target, drafter, scheme)
            text["domain"] = f"domain {number % 2}"
            shared = {name: text[name] for name in ("text_id", "document")}
            nodes = []
            for grown in (COUPLED, FIXED) if temperature else (COUPLED,):
                arguments = np.array(text["tokens"]), text["prompt_length"], request.sampling, grown, WIDTH, config
                nodes += [shared | row for row in grow_envelopes(drafter, *arguments)]
            traces.append({"texts": [text], "positions": positions, "nodes": nodes})
        traces.finish()
    return traces
