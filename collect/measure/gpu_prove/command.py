"""Correctness first, then times; run by `make gpu-prove`."""

import sys
from dataclasses import dataclass

import torch
from jsonargparse import auto_cli, set_parsing_settings

from ....controller.console import print_json, print_table, track
from ....controller.errors import InputError
from .checks import checks
from .times import NUM_SCORED, bandwidth, random_pair, score_times, step_times


@dataclass(frozen=True)
class ProofConfig:
    """Where, and what is timed."""

    device: str = "cuda"
    """On `cpu` the same code runs uncaptured, and its times do not apply to a GPU"""
    target: str = "8B"
    """Shape of the timed target: tiny, 1B or 8B"""
    drafter: str = "1B"
    """Shape of the timed drafter"""
    dtype: str = "bfloat16"
    """Of the timed models"""
    contexts: tuple[int, ...] = (1024, 32_768)
    """Committed tokens to time steps behind"""
    repeats: int = 20
    """Times each part is timed; the median counts"""


def gpu_prove(proof: ProofConfig = ProofConfig()) -> int:
    """Check decoding on a device and time a step's parts; 1 where a check fails.

    Args:
        proof: Where, and what is timed
    """
    device = torch.device(proof.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no CUDA device; `--proof.device cpu` runs the same code without one")
    found = list(track(checks(proof.device), "checks"))
    print_table("Correctness", [{"check": name, "holds": "yes" if holds else "NO"} for name, holds in found])
    bytes_per_second = bandwidth(device)
    pair = random_pair(proof.target, proof.drafter, proof.device, proof.dtype)
    times = [
        {name.replace("_", " "): value for name, value in time._asdict().items()}
        for context in track(proof.contexts, "times")
        for time in step_times(pair, context, proof.repeats, bytes_per_second)
    ]
    print_table(f"Median ms of a step's parts: {proof.target} target, {proof.drafter} drafter, one text", times)
    scores = [{"way": way, "ms": ms} for way, ms in score_times(device, proof.repeats).items()]
    print_table(f"Median ms to score {NUM_SCORED} nodes", scores)
    print_json(
        {
            "command": "gpu-prove",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            "gigabytes_per_second": round(bytes_per_second / 1e9, 1),
            "target": proof.target,
            "drafter": proof.drafter,
            "dtype": proof.dtype,
            "checks": dict(found),
            "times": times,
            "scores": scores,
        }
    )
    return 0 if all(holds for _, holds in found) else 1


if __name__ == "__main__":
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        sys.exit(auto_cli(gpu_prove))
    except InputError as error:
        print(f"gpu-prove: {error}", file=sys.stderr)
        sys.exit(2)
