"""The `collect` command: let the target write, let the drafter look, and keep what a selector can learn from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..controller.console import print_json, print_table, track
from ..controller.contract import LawTerms
from ..controller.errors import InputError
from ..runtime.decode import Request, check_request
from ..runtime.drafters.law import get_law
from ..runtime.pair import Pair, PairConfig, load_pair
from ..runtime.sampling import Sampling
from ..runtime.speculation import plain_decoder
from .envelope import EnvelopeConfig, grow_envelopes
from .label import label_text
from .profile import ProfileConfig, cached_table
from .prompts import Prompt, PromptConfig, load_prompts
from .trace import TraceFolder, TraceHeader


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
    """
    drafting_law = get_law(law)
    if min(width, draws, batch) < 1:
        raise InputError(f"width, draws and batch are at least 1, got {width}, {draws} and {batch}")
    if not texts.temperatures:
        raise InputError("no temperature is given; name at least one, such as [1.0]")
    chosen = load_prompts(prompts)
    models = load_pair(pair)
    jobs = _plan(models, chosen, texts, envelopes)
    settings = {"prompts": prompts, "texts": texts, "envelopes": envelopes}
    command = {name: asdict(value) for name, value in settings.items()} | {"batch": batch, "draws": draws}
    command = json.loads(json.dumps(command))
    header = TraceHeader(models.name, drafting_law.name, models.tokenizer_sha256, width, command)
    folder = TraceFolder.create(out, header)
    if not (out / "latency.json").exists():  # a resumed folder keeps the table it was begun with
        cached_table(models, profile).save(out / "latency.json")
    started = perf_counter()
    recorder = Recorder(models, drafting_law, width, draws, envelopes)
    shards = [jobs[start : start + batch] for start in range(0, len(jobs), batch)]
    for number, shard in enumerate(track(shards, "collect: texts")):
        if number >= len(folder.shards):
            folder.append(recorder.record(shard))
    _report(folder, perf_counter() - started)


@dataclass(frozen=True)
class Job:
    """One text to write and record."""

    prompt: Prompt
    request: Request
    with_envelopes: bool


def _plan(pair: Pair, prompts: list[Prompt], texts: TextConfig, envelopes: EnvelopeConfig) -> list[Job]:
    """One job per prompt, checked before anything is written."""
    temperatures = texts.temperatures
    jobs = []
    for number, prompt in enumerate(prompts):
        with_envelopes = number * envelopes.texts // len(prompts) < (number + 1) * envelopes.texts // len(prompts)
        sampling = Sampling(temperatures[number % len(temperatures)], top_p=texts.top_p, seed=texts.seed + number)
        request = Request(pair.tokenizer(prompt.text)["input_ids"], texts.max_tokens, sampling)
        check_request(request, pair.target.context_length)
        jobs.append(Job(prompt, request, with_envelopes))
    return jobs


@dataclass(frozen=True)
class Recorder:
    """Writes texts with the target and reduces both models' rows to trace rows."""

    pair: Pair
    law: LawTerms
    width: int
    draws: int
    envelopes: EnvelopeConfig

    def record(self, jobs: list[Job]) -> dict[str, list[dict[str, Any]]]:
        """Decode and label the jobs as one batch: rows by table."""
        started = perf_counter()
        streams, _ = plain_decoder(self.pair).generate([job.request for job in jobs])
        decode_ms = (perf_counter() - started) * 1e3 / len(jobs)
        rows: dict[str, list[dict[str, Any]]] = {"texts": [], "positions": [], "nodes": []}
        for job, stream in zip(jobs, streams, strict=True):
            self._label(job, stream.token_ids, decode_ms, rows)
        return rows

    def _label(self, job: Job, token_ids: list[int], decode_ms: float, rows: dict[str, list[dict[str, Any]]]) -> None:
        sampling, prompt_length = job.request.sampling, len(job.request.prompt_ids)
        tokens = np.array([*job.request.prompt_ids, *token_ids], dtype=np.int64)
        target, drafter = self.pair.target, self.pair.drafter
        shared = {"text_id": f"{sampling.seed:08d}", "document": job.prompt.document}
        warp = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        positions, num_ties = label_text(
            target, drafter, tokens, prompt_length, sampling, self.law, self.width, self.draws
        )
        rows["positions"] += [shared | warp | row for row in positions]
        if job.with_envelopes:
            envelopes = grow_envelopes(drafter, tokens, prompt_length, sampling, self.law, self.width, self.envelopes)
            rows["nodes"] += [shared | row for row in envelopes]
        facts = {"domain": job.prompt.domain, "tokens": tokens.tolist(), "prompt_length": prompt_length}
        facts |= {"top_k": sampling.top_k, "seed": sampling.seed, "num_ties": num_ties, "decode_ms": decode_ms}
        rows["texts"].append(shared | warp | facts)


def _report(folder: TraceFolder, seconds: float) -> None:
    positions = folder.positions().to_pandas()
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
    texts = folder.texts()
    print_json(
        {
            "command": "collect",
            "out": str(folder.path),
            "texts": texts.num_rows,
            "positions": len(positions),
            "ties": int(np.sum(texts["num_ties"].to_numpy())),
            "seconds": round(seconds, 1),
            "by_temperature": rows,
        }
    )
