"""The `collect` command: records texts, labels stored ones anew, or merges shards, and prints what the folder holds."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from time import perf_counter

import numpy as np

from ..controller.console import print_json, print_table
from ..controller.contract import FIXED
from ..controller.errors import InputError
from ..controller.ranges import require_some
from ..runtime.pair import PairConfig
from ..runtime.speculation import MemoryOptions
from .labels.envelopes import EnvelopeConfig
from .labels.recorder import RunConfig
from .labels.shapes import ShapeConfig
from .measure.profile import ProfileConfig
from .prompts.sources import PromptConfig
from .record import TextConfig, record
from .relabel import relabel as relabel_texts
from .trace import TraceFolder, rank_column
from .trace.merge import merge as merge_shards


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
    shapes: ShapeConfig = ShapeConfig(),
    memory: MemoryOptions = MemoryOptions(),
    selector: Path | None = None,
    privacy: str = "tokens",
    shard: str = "1/1",
    relabel: Path | None = None,
    merge: tuple[Path, ...] | None = None,
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
        shapes: The labels from which `train-shapes` learns to choose the shapes of sampled trees
        memory: Have the drafter's rows corrected before anything is recorded of them, as they are where a selector is
            used that carries this memory; what is trained on such traces carries it
        selector: Checkpoint folder whose memory that is
        privacy: tokens, or features to leave out token ids and document names; numbers about a text always stay
        shard: i/n records every n-th text from the i-th on, so that n machines share one run
        relabel: Generate no texts, but label those of this folder anew, which `collect` or `serve --record` wrote
        merge: Collect nothing, but put the folders of all n shards of one run together
    """
    started = perf_counter()
    run = RunConfig(scheme, width, draws, batch, envelopes, shapes, memory, selector, privacy, shard)
    of_texts = {"prompts": prompts, "texts": texts}
    if merge is not None:
        require_some("merge", merge)
        _refuse_idle("merge", {"relabel": relabel, "pair": pair, "profile": profile} | of_texts | vars(run))
        folder = merge_shards(out, merge)
    elif relabel:
        _refuse_idle("relabel", of_texts)
        folder = relabel_texts(out, relabel, pair, run, profile)
    else:
        folder = record(out, pair, prompts, texts, run, profile)
    _report(folder, perf_counter() - started)


def _refuse_idle(flag: str, options: Mapping[str, object]) -> None:
    """InputError that names every option given that does nothing beside `flag`."""
    parameters = signature(collect).parameters
    if idle := [name for name, value in options.items() if value != parameters[name].default]:
        raise InputError(f"with --{flag} the following does nothing: {', '.join(idle)}; leave all options of it out")


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
                "temperature": round(float(str(temperature)), 3),
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
