"""Small trace folders of the tiny pair, made with the collector's own parts."""

import numpy as np
import tiny
from treewright.collect.label import label_text
from treewright.collect.trace import TraceFolder, TraceHeader
from treewright.controller.contract import COUPLED
from treewright.runtime.decode import Request

WIDTH = 3


def header(width=WIDTH) -> TraceHeader:
    return TraceHeader(pair="tiny", law="coupled", tokenizer_sha256="0" * 64, width=width, command={"seed": 1})


def rows_of(request: Request, token_ids, document: str, target, drafter, law=COUPLED):
    """(text row, position rows) of one written text."""
    tokens = np.array([*request.prompt_ids, *token_ids])
    sampling, prompt_length = request.sampling, len(request.prompt_ids)
    rows, num_ties = label_text(target, drafter, tokens, prompt_length, sampling, law, WIDTH)
    shared = {"text_id": f"{sampling.seed:08d}", "document": document}
    shared |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    text = shared | {
        "domain": "toy",
        "tokens": tokens.tolist(),
        "prompt_length": prompt_length,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "num_ties": num_ties,
        "decode_ms": 1.0,
    }
    return text, [shared | row for row in rows]


def write(folder, count=4, temperature=0.8, max_tokens=40) -> TraceFolder:
    """A folder of `count` plainly written texts, one document each, in shards of two."""
    requests = tiny.requests(count, temperature, max_tokens)
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    streams, _ = tiny.decoder(target).generate(requests)
    traces = TraceFolder.create(folder, header())
    for start in range(0, count, 2):
        table: dict = {"texts": [], "positions": [], "nodes": []}
        for number in range(start, min(start + 2, count)):
            text, rows = rows_of(requests[number], streams[number].token_ids, f"doc {number}", target, drafter)
            table["texts"].append(text)
            table["positions"] += rows
        traces.append(table)
    return traces
