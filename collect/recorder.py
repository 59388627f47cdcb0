"""Writes texts with the target, lets the drafter look, and keeps what a selector can learn from."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ..controller.contract import LawTerms
from ..runtime.decode import Request
from ..runtime.drafters.law import get_law
from ..runtime.pair import Pair
from ..runtime.sampling import Sampling
from ..runtime.speculation import plain_decoder
from .envelope import EnvelopeConfig, grow_envelopes
from .label import label_text
from .prompts import Prompt


@dataclass(frozen=True)
class Job:
    """One text to write and record."""

    prompt: Prompt
    request: Request
    with_envelopes: bool


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
            for law in self._envelope_laws(sampling):
                grown = grow_envelopes(drafter, tokens, prompt_length, sampling, law, self.width, self.envelopes)
                rows["nodes"] += [shared | row for row in grown]
        facts = {"domain": job.prompt.domain, "tokens": tokens.tolist(), "prompt_length": prompt_length}
        facts |= {"top_k": sampling.top_k, "seed": sampling.seed, "num_ties": num_ties, "decode_ms": decode_ms}
        rows["texts"].append(shared | warp | facts)

    def _envelope_laws(self, sampling: Sampling) -> list[LawTerms]:
        laws = [get_law(name) for name in self.envelopes.laws]
        return laws if sampling.temperature > 0 else laws[:1]
