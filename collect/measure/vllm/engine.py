"""One vLLM engine in this process, and what a batch of texts takes there."""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
DRAFTED, ACCEPTED = "vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens"


class Job(NamedTuple):
    """One text to generate; it goes on behind the end-of-text token, so that all ways generate as much."""

    prompt_ids: list[int]
    max_tokens: int
    temperature: float
    seed: int
    domain: str


@dataclass(frozen=True)
class BatchRun:
    """All jobs generated together, as many at a time as the engine takes."""

    texts: list[list[int]]
    seconds: float
    latencies: list[float]  # seconds from the start to the end of each text
    step_ms: list[float]  # of the engine's steps
    num_steps: int  # steps of texts: one of a batch of n counts n
    num_drafted: int  # drafted tokens that were verified
    num_accepted: int


@contextmanager
def open_engine(options: Mapping[str, Any]) -> Iterator[Any]:
    """An engine of `vllm.LLM`'s arguments, closed behind the block so that another can follow."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    llm = LLM(**{"disable_log_stats": False, "seed": 0} | dict(options))
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def run_batch(llm: Any, jobs: Sequence[Job]) -> BatchRun:
    """Generate the jobs, all of them waiting from the start."""
    from vllm import SamplingParams

    before = counts(llm)
    for number, job in enumerate(jobs):
        params = SamplingParams(
            temperature=job.temperature, max_tokens=job.max_tokens, seed=job.seed, ignore_eos=True, detokenize=False
        )
        llm.llm_engine.add_request(f"{id(jobs)}-{number}", {"prompt_token_ids": job.prompt_ids}, params)
    texts: dict[int, list[int]] = {number: [] for number in range(len(jobs))}
    latencies, step_ms, num_steps = [0.0] * len(jobs), [], 0
    started = now = perf_counter()
    while llm.llm_engine.has_unfinished_requests():
        outputs = llm.llm_engine.step()
        after = perf_counter()
        step_ms.append((after - now) * 1e3)
        now = after
        for output in outputs:
            number = int(output.request_id.rpartition("-")[2])
            tokens = list(output.outputs[0].token_ids)
            num_steps += len(tokens) > len(texts[number])
            texts[number] = tokens
            if output.finished:
                latencies[number] = now - started
    drafted, accepted = (after_all - b for after_all, b in zip(counts(llm), before, strict=True))
    ordered = [texts[number] for number in range(len(jobs))]
    return BatchRun(ordered, now - started, latencies, step_ms, num_steps, drafted, accepted)


def counts(llm: Any) -> tuple[int, int]:
    """Drafted and accepted tokens so far."""
    values = {metric.name: metric.value for metric in llm.get_metrics() if metric.name in (DRAFTED, ACCEPTED)}
    return int(values.get(DRAFTED, 0)), int(values.get(ACCEPTED, 0))
