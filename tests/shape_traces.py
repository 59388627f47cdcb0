"""A small trace folder of the tiny pair with labels of shapes, and a checkpoint trained on it."""

from dataclasses import replace

import plans
import tiny
import traces
from treewright.collect.labels.shapes import ShapeConfig, label_shapes
from treewright.collect.trace import GROUPS, TraceFolder, TraceRows
from treewright.train.shapes.command import train_shapes
from treewright.train.shapes.settings import ShapeFitConfig


def write(folder, count=4, trees=1, max_tokens=24) -> TraceFolder:
    """One document per text, with a latency table."""
    target, drafter = tiny.llama(), tiny.llama(noise=0.02)
    requests = tiny.requests(count, 0.8, max_tokens)
    streams, _ = tiny.decoder(target).generate(requests)
    config = ShapeConfig(labels=True, every=24, trees=trees)
    sha256 = tiny.pair().tokenizer_sha256
    with TraceFolder.create(folder, traces.header(groups=tuple(GROUPS), tokenizer_sha256=sha256)) as written:
        written.attach("latency.json", b"{}")
        for number, (request, stream) in enumerate(zip(requests, streams, strict=True)):
            text, positions = traces.rows_of(request, stream.token_ids, f"doc {number}", target, drafter)
            written.append(TraceRows([text], positions, [], *label_shapes(target, drafter, text, config)))
        written.finish()
    return written


def table(folder):
    """The path of a small latency table."""
    path = folder / "table.json"
    replace(plans.TABLE, key=tiny.pair().latency_key).save(path)
    return path


def train(folder, *, trees=1, **fit):
    """The path of a checkpoint folder below `folder`."""
    settings = {"hidden_size": 8, "max_epochs": 3, "validation_share": 0.34, "test_share": 0.34} | fit
    traced = write(folder / "traces", trees=trees)
    train_shapes((traced.path,), folder / "shapes", ShapeFitConfig(**settings), table(folder))
    return folder / "shapes"
