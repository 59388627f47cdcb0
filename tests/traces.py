"""Small trace folders of the tiny pair, made with the collector's own parts."""

from dataclasses import asdict

import tiny
from treewright.collect.labels.envelopes import EnvelopeConfig, grow_envelopes
from treewright.collect.labels.positions import label_text
from treewright.collect.labels.rows import TextMemory
from treewright.collect.text import text_row
from treewright.collect.trace import TextRow, TraceFolder, TraceHeader, TraceRows
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


def rows_of(request: Request, token_ids, document: str, target, drafter, scheme=COUPLED, draws=1, memory=None):
    """(text row, position rows) of one generated text."""
    text = row_of(request, token_ids, document)
    known = memory and TextMemory.of(target, drafter, text, memory)
    labels = label_text(target, drafter, text, scheme, WIDTH, draws, known)
    return text._replace(num_ties=labels.num_ties), labels.positions


def row_of(request: Request, token_ids, document: str) -> TextRow:
    text_id = f"{request.sampling.seed:08d}"
    row = text_row(request, token_ids, text_id=text_id, domain="toy", document=document)
    return row._replace(decode_ms=1.0)


def envelopes_of(text: TextRow, drafter, config: EnvelopeConfig, known: TextMemory | None = None):
    """The envelopes of one text, under every scheme of the configuration."""
    schemes = [get_ranked_scheme(name) for name in config.schemes]
    return [row for scheme in schemes for row in grow_envelopes(drafter, text, scheme, WIDTH, config, known)]


def write(
    folder,
    count=4,
    temperature=0.8,
    max_tokens=40,
    draws=1,
    envelopes=EnvelopeConfig(),
    scheme=COUPLED,
    enveloped=None,
    memory=None,
    noise=0.02,
) -> TraceFolder:
    """A folder of `count` plainly generated texts, one document each, in shards of two; all of them with envelopes if
    there are any, or those `enveloped` by number."""
    requests = tiny.requests(count, temperature, max_tokens)
    target, drafter = tiny.llama(), tiny.llama(noise=noise)
    streams, _ = tiny.decoder(target).generate(requests)
    command = {"seed": 1, "envelopes": asdict(envelopes)}
    of_all = header(command=command, scheme=scheme.name, memory=memory)
    with TraceFolder.create(folder, of_all, shard_texts=2) as traces:
        for number, (request, stream) in enumerate(zip(requests, streams, strict=True)):
            document = f"doc {number}"
            text, positions = rows_of(request, stream.token_ids, document, target, drafter, scheme, draws, memory)
            grow = number in enveloped if enveloped is not None else envelopes.texts > 0
            known = memory and TextMemory.of(target, drafter, text, memory)
            nodes = envelopes_of(text, drafter, envelopes, known) if grow else []
            traces.append(TraceRows([text], positions, nodes))
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
            text = text._replace(domain=f"domain {number % 2}")
            schemes = (COUPLED, FIXED) if temperature else (COUPLED,)
            nodes = [row for grown in schemes for row in grow_envelopes(drafter, text, grown, WIDTH, config)]
            traces.append(TraceRows([text], positions, nodes))
        traces.finish()
    return traces
