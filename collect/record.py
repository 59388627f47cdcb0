"""The `collect` command: let the target write, let the drafter look, and keep what a selector can learn from."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..controller.console import print_json, print_table, track
from ..controller.errors import InputError
from ..runtime.decode import Request, check_request
from ..runtime.drafters.law import get_law
from ..runtime.pair import Pair, PairConfig, load_pair
from ..runtime.sampling import Sampling
from .envelope import EnvelopeConfig
from .profile import ProfileConfig
from .prompts import Prompt, PromptConfig, load_prompts
from .recorder import Job, Recorder
from .table_cache import cached_table
from .trace import PRIVACY, TraceFolder, TraceHeader, merge_folders, parse_shard


@dataclass(frozen=True)
class TextConfig:
    """How the target writes the texts that are recorded."""

    temperatures: tuple[float, ...] = (0.0, 0.6, 1.0)
    """Temperatures, dealt out to the prompts in turn"""
    top_p: float = 1.0
    """Nucleus cut of all texts, 1 for none"""
    max_tokens: int = 64
    """Tokens written per prompt"""
    seed: int = 1
    """Seed of the first text; each text takes the next"""


def collect(
    out: Path,
    pair: PairConfig = PairConfig(),
    prompts: PromptConfig = PromptConfig(),
    texts: TextConfig = TextConfig(),
    profile: ProfileConfig = ProfileConfig(),
    law: str = "coupled",
    width: int = 4,
    draws: int = 4,
    batch: int = 8,
    envelopes: EnvelopeConfig = EnvelopeConfig(),
    privacy: str = "tokens",
    shard: str = "1/1",
    merge: tuple[Path, ...] = (),
) -> None:
    """Record traces of a pair: texts, positions, candidate nodes, and the machine's latency table.

    Args:
        out: Trace folder to write; an unfinished one of the same command is resumed
        pair: The two models
        prompts: The prompts to continue
        texts: How the target continues them
        profile: What the latency table spans
        law: Drafting law: coupled or fixed
        width: Candidates recorded per position
        draws: Noise draws labelled per position, the text's own first
        batch: Texts decoded at once
        envelopes: The trees recorded for replay
        privacy: tokens, or features to leave out token ids and document names; numbers about a text always stay
        shard: i/n records every n-th text from the i-th on, so that n machines share one run
        merge: Collect nothing, but put the folders of all n shards of one run together
    """
    started = perf_counter()
    if merge:
        _report(merge_folders(out, merge), perf_counter() - started)
        return
    drafting_law = get_law(law)
    if min(width, draws, batch) < 1:
        raise InputError(f"width, draws and batch are at least 1, got {width}, {draws} and {batch}")
    if privacy not in PRIVACY:
        raise InputError(f"privacy is one of {', '.join(PRIVACY)}, got {privacy!r}")
    shard_number, num_shards = parse_shard(shard)
    if not texts.temperatures:
        raise InputError("no temperature is given; name at least one, such as [1.0]")
    chosen = load_prompts(prompts)
    if num_shards > len(chosen):
        raise InputError(f"{len(chosen)} prompts cannot be shared among {num_shards} machines; use fewer shards")
    settings = {"prompts": prompts, "texts": texts, "envelopes": envelopes}
    command = {name: asdict(value) for name, value in settings.items()} | {"batch": batch, "draws": draws}
    command = json.loads(json.dumps(command | _prompts_seen(chosen, privacy)))
    if privacy == "features":
        chosen = _without_names(chosen)
    models = load_pair(pair)
    jobs = _plan(models, chosen, texts, envelopes)[shard_number - 1 :: num_shards]
    recorder = Recorder(models, drafting_law, width, draws, envelopes)
    identity = models.name, drafting_law.name, models.tokenizer_sha256
    with TraceFolder.create(out, TraceHeader(*identity, width, command, shard, PRIVACY[privacy])) as folder:
        if "latency.json" not in folder.files:  # a resumed folder keeps the table it was begun with
            table = cached_table(models, profile)
            folder.attach("latency.json", json.dumps(table.as_dict(), indent=1).encode())
        batches = [jobs[start : start + batch] for start in range(folder.num_texts, len(jobs), batch)]
        for together in track(batches, "collect: texts"):
            folder.append(recorder.record(together))
        folder.finish()
    _report(folder, perf_counter() - started)


def _prompts_seen(prompts: list[Prompt], privacy: str) -> dict[str, Any]:
    """Tells a resumed run and the other machines whether their prompts are the same ones."""
    if privacy == "features":  # a hash could confirm a guess
        return {"num_prompts": len(prompts)}
    content = json.dumps([asdict(prompt) for prompt in prompts]).encode()
    return {"num_prompts": len(prompts), "prompts_sha256": hashlib.sha256(content).hexdigest()}


def _without_names(prompts: list[Prompt]) -> list[Prompt]:
    """Documents by number. Unlike a salted hash this is the same after a resume and on every machine, so no document
    gets two names and stands on both sides of a split; and it tells no more than the order of the texts does."""
    numbers = {document: number for number, document in enumerate(dict.fromkeys(p.document for p in prompts))}
    return [replace(prompt, document=f"document {numbers[prompt.document]}") for prompt in prompts]


def _plan(pair: Pair, prompts: list[Prompt], texts: TextConfig, envelopes: EnvelopeConfig) -> list[Job]:
    """One job per prompt, checked before anything is written."""
    temperatures = texts.temperatures
    # Not every k-th: that could keep step with the temperatures or the domains, which come in turn, too.
    enveloped = set(np.random.default_rng(texts.seed).permutation(len(prompts))[: envelopes.texts].tolist())
    jobs = []
    for number, prompt in enumerate(prompts):
        sampling = Sampling(temperatures[number % len(temperatures)], top_p=texts.top_p, seed=texts.seed + number)
        request = Request(pair.tokenizer(prompt.text)["input_ids"], texts.max_tokens, sampling)
        check_request(request, pair.target.context_length)
        jobs.append(Job(prompt, request, number in enveloped))
    return jobs


def _report(folder: TraceFolder, seconds: float) -> None:
    positions = folder.read("positions", ["draw", "temperature", "rank", "fixed_rank", "overlap"]).to_pandas()
    positions = positions[positions["draw"] == 0]
    rows = []
    for temperature, group in positions.groupby("temperature"):
        coverage = [float((group["rank"] == rank).mean()) for rank in range(folder.header.width)]
        fixed = [float((group["fixed_rank"] == rank).mean()) for rank in range(folder.header.width)]
        rows.append(
            {
                "temperature": round(float(str(temperature)), 3),
                "positions": len(group),
                "overlap": round(float(group["overlap"].mean()), 3),
                "first choice taken": round(coverage[0], 3),
                f"top {folder.header.width} taken": round(sum(coverage), 3),
                "first, fixed law": round(fixed[0], 3),
                f"top {folder.header.width}, fixed law": round(sum(fixed), 3),
            }
        )
    print_table(f"Traces of {folder.header.pair} under the {folder.header.law} law", rows)
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
