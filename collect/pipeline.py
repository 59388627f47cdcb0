"""From texts to a trace folder, batch by batch: the part that `record` and `relabel` share."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..controller.console import track
from ..controller.errors import InputError
from ..runtime.pair import Pair, PairConfig, load_pair
from .header import trace_header
from .labels.recorder import RunConfig, record_rows
from .measure.profile import ProfileConfig
from .measure.table_cache import cached_table
from .trace import GROUPS, PRIVACY, TextRow, TraceFolder
from .trace.merge import parse_shard

Take = Callable[[Sequence[int]], list[TextRow]]  # texts by their numbers


class TextSource(NamedTuple):
    """Texts by number; the same on every machine of a run and when the run is resumed."""

    settings: dict[str, Any]  # the request for them, as the JSON that the header of the trace folder holds
    documents: list[str]  # the name of each text's document
    digest: str  # a hash of all that the texts depend on besides the settings
    some_sampled: bool  # whether any is drawn at a temperature above 0
    open: Callable[[Pair], Take]  # InputError where the pair does not fit one of them


def store_texts(
    out: Path, source: TextSource, pair: PairConfig, run: RunConfig, profile: ProfileConfig, *, envelope_seed: int
) -> TraceFolder:
    """Label the texts of `source` that belong to the run's shard and store them with the latency table; the finished
    folder. An unfinished folder of the same run is resumed."""
    shard_number, num_shards = parse_shard(run.shard)
    num_texts = len(source.documents)
    if num_shards > num_texts:
        raise InputError(f"{num_texts} texts cannot be shared among {num_shards} machines; use fewer shards")
    command = source.settings | {"envelopes": asdict(run.envelopes), "batch": run.batch, "draws": run.draws}
    if run.shapes.labels:
        if not source.some_sampled:
            raise InputError(
                "shapes.labels are of texts drawn at temperatures above 0, and there are none; leave it out"
            )
        command |= {"shapes": asdict(run.shapes)}
    command |= {"num_texts": num_texts}  # with the hash, it identifies the texts to a resumed run and other machines
    if run.privacy != "features":  # there the hash could confirm a guess
        command |= {"texts_sha256": source.digest}
    names = _names(source.documents, run.privacy)
    models = load_pair(pair)
    memory = run.memory_of(models)
    take = source.open(models)
    # Not every k-th text: that could keep step with the temperatures or the domains, which alternate too.
    enveloped = set(np.random.default_rng(envelope_seed).permutation(num_texts)[: run.envelopes.texts].tolist())
    numbers = range(num_texts)[shard_number - 1 :: num_shards]
    kept = {"shard": run.shard, "omitted": PRIVACY[run.privacy], "groups": tuple(GROUPS) if run.shapes.labels else ()}
    kept["memory"] = memory
    header = trace_header(models, scheme=run.scheme, width=run.width, command=json.loads(json.dumps(command)), **kept)
    with TraceFolder.create(out, header) as folder:
        if "latency.json" not in folder.files:  # a resumed folder keeps the table it was started with
            table = cached_table(models, profile)
            folder.attach("latency.json", json.dumps(table.as_dict(), indent=1).encode())
        batches = [numbers[start : start + run.batch] for start in range(folder.num_texts, len(numbers), run.batch)]
        for together in track(batches, "collect: batches of texts"):
            texts = [text._replace(document=names[text.document]) for text in take(together)]
            folder.append(record_rows(models, texts, [number in enveloped for number in together], run, memory))
        folder.finish()
    return folder


def _names(documents: list[str], privacy: str) -> dict[str, str]:
    """The name of each document in the folder: its number where names are left out. Unlike a salted hash, the number is
    the same after a resume and on every machine, so no document gets two names and falls on both sides of a split; and
    it reveals no more than the order of the texts does."""
    names = list(dict.fromkeys(documents))
    return {name: name if privacy != "features" else f"document {number}" for number, name in enumerate(names)}


def sha256_of(rows: Iterable[dict[str, Any]]) -> str:
    """A hash of JSON rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
