"""Correctness first, then times; run by `make gpu-prove`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from ....controller.checkpoint import Checkpoint
from ....controller.console import print_json, print_table, track
from ....controller.contract import COUPLED
from ....controller.errors import InputError, named
from ....controller.files import atomic_write
from ....controller.policies.learned import learned_selector
from ....controller.ranges import require_at_least, require_between, require_some
from ....runtime.build import tree_decoder
from ....runtime.engines.transformers.page_tables import MOST_SLOTS
from ....runtime.machine.processor import processor_name
from ....runtime.pair_config import PairConfig, reference_folder
from ....runtime.sampling import Sampling
from ...make_pair.sizes import GROWN_SHAPES
from ..profile import ProfileConfig, measure
from ..program import run_program
from .checks import checks
from .decoding import as_rows, compare, make_jobs, round_of, watch
from .times import MOST_POSITIONS, NUM_SCORED, SMALL, bandwidth, inflated_pair, score_times, step_times

# The latency table that the learned trees go by.
CONTEXTS = (512,)


@dataclass(frozen=True)
class ProofConfig:
    """Where, and what is timed."""

    device: str = "cuda"
    """On `cpu` the same code runs uncaptured, and its times do not apply to a GPU"""
    size: str = "8b"
    """Shape that the reference pair is grown to for the times: small (as it is), 100m, 1b or 8b"""
    dtype: str = "bfloat16"
    """Of the timed models"""
    contexts: tuple[int, ...] = (1024,)
    """Committed tokens to time a step's parts behind"""
    repeats: int = 9
    """Times each part is timed; the median counts"""
    batches: tuple[int, ...] = (1, 8, 32, 64)
    """Texts decoded side by side"""
    rounds: int = 3
    """Rounds of texts for each of those, the interval's grain"""
    temperature: float = 1.0
    """Of the texts"""
    max_tokens: int = 24
    """Tokens of a text, give or take a half"""
    out: Path | None = None
    """File of the report, written after every part of it"""
    trace: Path | None = None
    """Where a Chrome trace of ten steps goes, of one text under learned trees"""

    def __post_init__(self) -> None:
        PairConfig(dtype=self.dtype, device=self.device)
        if self.size != SMALL and self.size not in GROWN_SHAPES:
            raise InputError(
                f"proof.size is {SMALL} or one of {', '.join(GROWN_SHAPES)}, got {self.size!r}; choose one of them"
            )
        for name in ("contexts", "batches"):
            require_some(f"proof.{name}", getattr(self, name))
            for count in getattr(self, name):
                require_between(f"proof.{name}", count, 1, MOST_POSITIONS // 2 if name == "contexts" else MOST_SLOTS)
        require_at_least("proof.repeats", self.repeats, 1)
        require_at_least("proof.rounds", self.rounds, 2)  # one has no interval
        require_between("proof.max_tokens", self.max_tokens, 2, 512)
        with named("proof.temperature"):
            Sampling(self.temperature)
        for path in (self.out, self.trace):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise InputError(f"{path} cannot be written: give a file in a folder that exists")


def gpu_prove(proof: ProofConfig = ProofConfig()) -> int:
    """Check decoding on a device and time it, in parts and whole; 1 where a check fails.

    Args:
        proof: Where, and what is timed
    """
    device = torch.device(proof.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no CUDA device; `--proof.device cpu` runs the same code without one")
    report: dict[str, Any] = {
        "command": "gpu-prove",
        "device": str(device),
        "processor": processor_name(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
        "size": proof.size,
        "dtype": proof.dtype,
        "temperature": proof.temperature,
    }
    for part in _parts(proof, device):
        report |= part
        if proof.out is not None:
            atomic_write(proof.out, json.dumps(report, indent=1).encode())
    print_json(report)
    return 0 if all(report["checks"].values()) else 1


def _parts(proof: ProofConfig, device: torch.device) -> Iterator[dict[str, Any]]:
    """Parts of the report, each printed as a table."""
    found = list(track(checks(proof.device), "checks"))
    print_table("Correctness", [{"check": name, "holds": "yes" if holds else "NO"} for name, holds in found])
    yield {"checks": dict(found)}
    bytes_per_second = bandwidth(device)
    started = perf_counter()
    pair = inflated_pair(proof.size, proof.device, proof.dtype)
    yield {"gigabytes_per_second": round(bytes_per_second / 1e9, 1), "seconds_to_make": round(perf_counter() - started)}
    times = [
        time
        for context in track(proof.contexts, "times")
        for time in step_times(pair, context, proof.repeats, bytes_per_second)
    ]
    print_table(f"Median ms of a step's parts, reference pair grown to {proof.size}, one text", as_rows(times))
    scores = [{"way": way, "ms": ms} for way, ms in score_times(device, proof.repeats).items()]
    print_table(f"Median ms to score {NUM_SCORED} nodes", scores)
    yield {"times": as_rows(times), "scores": scores}
    checkpoint = Checkpoint.from_pretrained(reference_folder() / "selector")
    table = measure(pair, ProfileConfig(batches=tuple(sorted(proof.batches)), contexts=CONTEXTS, repeats=proof.repeats))
    yield {"table": table.as_dict()}
    jobs = make_jobs(pair, proof.temperature, proof.max_tokens)
    rows, watched = [], []
    for batch in proof.batches:
        decoder = tree_decoder(pair, COUPLED, learned_selector(checkpoint, table))
        decoder.prepare(batch)
        texts = [job._replace(max_tokens=1000) for job in round_of(jobs, batch, 0)[:batch]]
        rows += compare(pair, checkpoint, table, jobs, batch, proof.rounds)
        watched.append(watch(decoder, texts, proof.trace if batch == 1 else None))
        yield {"steps": as_rows(watched), "decoding": as_rows(rows)}
    print_table(f"Decoding at T = {proof.temperature:g}", as_rows(rows))
    print_table("Learned trees on the device, per step", as_rows(watched))


if __name__ == "__main__":
    run_program(gpu_prove, "gpu-prove")
