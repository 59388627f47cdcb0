"""The `collect` command: texts of the target, what the drafter would have made of them, and what a step costs."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..controller.console import print_json, print_table, track
from ..controller.contract import FIXED
from ..controller.errors import InputError
from ..controller.plans.setting import rounded
from ..runtime.pair import PairConfig, load_pair
from ..runtime.schemes.ranked import get_ranked_scheme
from .envelope import EnvelopeConfig
from .identity import trace_header
from .measure.profile import ProfileConfig
from .measure.table_cache import cached_table
from .prompts.sources import PromptConfig
from .recorder import Recorder
from .source import PromptedTexts, StoredTexts, TextConfig, TextSource
from .trace import PRIVACY, TraceFolder, merge_folders, parse_shard, rank_column


def collect(
    out: Path,
    pair: PairConfig = PairConfig(),
    prompts: PromptConfig = PromptConfig(),
    texts: TextConfig = TextConfig(),
    profile: ProfileConfig = ProfileConfig(),
    scheme: str = "coupled",
    width: int = 4,
    draws: int = 4,
    batch: int = 8,
    envelopes: EnvelopeConfig = EnvelopeConfig(),
    privacy: str = "tokens",
    shard: str = "1/1",
    relabel: Path | None = None,
    merge: tuple[Path, ...] = (),
) -> None:
    """Record traces of a pair: texts, positions, candidate nodes, and the machine's latency table.

    Args:
        out: Trace folder to write; an unfinished one of the same command is resumed
        pair: The two models
        prompts: The prompts to continue
        texts: How the target continues them
        profile: What the latency table spans
        scheme: Drafting scheme: coupled or fixed
        width: The drafter's candidates recorded per position; the text's own n-grams add one
        draws: Noise draws labelled per position, the text's own first
        batch: Texts decoded, or read again, before they are stored together
        envelopes: The trees recorded for replay
        privacy: tokens, or features to leave out token ids and document names; numbers about a text always stay
        shard: i/n records every n-th text from the i-th on, so that n machines share one run
        relabel: Write no texts, but label those of this folder anew, which `collect` or `serve --record` wrote
        merge: Collect nothing, but put the folders of all n shards of one run together
    """
    started = perf_counter()
    if merge and relabel:
        raise InputError("merge and relabel are both given; merge the shards first, then relabel the whole")
    if merge:
        _report(merge_folders(out, merge), perf_counter() - started)
        return
    drafting_scheme = get_ranked_scheme(scheme)
    if min(width, draws, batch) < 1:
        raise InputError(f"width, draws and batch are at least 1, got {width}, {draws} and {batch}")
    if privacy not in PRIVACY:
        raise InputError(f"privacy is one of {', '.join(PRIVACY)}, got {privacy!r}")
    shard_number, num_shards = parse_shard(shard)
    source = _source(relabel, prompts, texts)
    num_texts = len(source.documents)
    if num_shards > num_texts:
        raise InputError(f"{num_texts} texts cannot be shared among {num_shards} machines; use fewer shards")
    command = source.settings | {"envelopes": asdict(envelopes), "batch": batch, "draws": draws}
    command = json.loads(json.dumps(command | _texts_seen(source, privacy)))
    names = _names(source.documents, privacy)
    models = load_pair(pair)
    take = source.open(models)
    # Not every k-th: that could keep step with the temperatures or the domains, which come in turn, too.
    enveloped = set(np.random.default_rng(texts.seed).permutation(num_texts)[: envelopes.texts].tolist())
    numbers = range(num_texts)[shard_number - 1 :: num_shards]
    recorder = Recorder(models, drafting_scheme, width, draws, envelopes)
    kept = {"shard": shard, "omitted": PRIVACY[privacy]}
    header = trace_header(models, scheme=drafting_scheme.name, width=width, command=command, **kept)
    with TraceFolder.create(out, header) as folder:
        if "latency.json" not in folder.files:  # a resumed folder keeps the table it was begun with
            table = cached_table(models, profile)
            folder.attach("latency.json", json.dumps(table.as_dict(), indent=1).encode())
        batches = [numbers[start : start + batch] for start in range(folder.num_texts, len(numbers), batch)]
        for together in track(batches, "collect: batches of texts"):
            written = [replace(text, document=names[text.document]) for text in take(together)]
            folder.append(recorder.record(written, [number in enveloped for number in together]))
        folder.finish()
    _report(folder, perf_counter() - started)


def _source(relabel: Path | None, prompts: PromptConfig, texts: TextConfig) -> TextSource:
    if relabel is None:
        return PromptedTexts.load(prompts, texts)
    if prompts != PromptConfig() or texts != TextConfig():
        raise InputError(f"the texts to relabel are those of {relabel}; leave out all options of prompts and texts")
    return StoredTexts.load(relabel)


def _texts_seen(source: TextSource, privacy: str) -> dict[str, Any]:
    """Tells a resumed run and the other machines whether their texts are the same ones."""
    number = {"num_texts": len(source.documents)}
    return number if privacy == "features" else number | {"texts_sha256": source.digest}  # a hash could confirm a guess


def _names(documents: list[str], privacy: str) -> dict[str, str]:
    """What each document is called in the folder: by number where names are left out. Unlike a salted hash this is the
    same after a resume and on every machine, so no document gets two names and stands on both sides of a split; and it
    tells no more than the order of the texts does."""
    names = list(dict.fromkeys(documents))
    return {name: name if privacy != "features" else f"document {number}" for number, name in enumerate(names)}


def _report(folder: TraceFolder, seconds: float) -> None:
    columns = [rank_column(scheme) for scheme in (folder.header.scheme, FIXED.name)]
    positions = folder.read("positions", ["draw", "temperature", "overlap", *dict.fromkeys(columns)]).to_pandas()
    positions = positions[positions["draw"] == 0]
    rows = []
    for temperature, group in positions.groupby("temperature"):
        ranks = range(folder.header.num_candidates)
        coverage, fixed = ([float((group[name] == rank).mean()) for rank in ranks] for name in columns)
        rows.append(
            {
                "temperature": rounded(float(str(temperature))),
                "positions": len(group),
                "overlap": round(float(group["overlap"].mean()), 3),
                "first choice taken": round(coverage[0], 3),
                f"top {folder.header.width} taken": round(sum(coverage[:-1]), 3),
                "n-grams' taken": round(coverage[-1], 3),
                "first, fixed scheme": round(fixed[0], 3),
                f"top {folder.header.width}, fixed scheme": round(sum(fixed[:-1]), 3),
            }
        )
    print_table(f"Traces of {folder.header.pair} under the {folder.header.scheme} scheme", rows)
    texts = folder.read("texts", ["num_ties"])
    print_json(
        {
            "command": "collect",
            "out": str(folder.path),
            "shard": folder.header.shard,
            "texts": texts.num_rows,
            "positions": len(positions),
            "ties": int(np.sum(texts["num_ties"].to_numpy())),
            "seconds": round(seconds, 1),
            "by_temperature": rows,
        }
    )
