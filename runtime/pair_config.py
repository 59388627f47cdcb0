"""Which models decode, where and how."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from ..controller.errors import InputError
from ..controller.ranges import MOST_THREADS, require_at_least, require_between

REFERENCE = "reference"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

LEAST_CACHE = 1024  # tokens: a step of one text takes some 300, besides its own


@dataclass(frozen=True)
class PairConfig:
    """Which two models decode, or which model with a head, and how."""

    target: str = REFERENCE
    """Folder or hub id of the target; `reference` is the pair that ships with treewright"""
    drafter: str = REFERENCE
    """Folder or hub id of the drafter, which shares the target's tokenizer; or, in `generate` and `serve`, the folder
    of a head made for the target, in safetensors: EAGLE-3 (layout of `speculators`) or Medusa"""
    dtype: str = "float32"
    """Number format of both models: float32, float64, bfloat16 or float16"""
    device: str = "cpu"
    """Where both models run: cpu or cuda"""
    threads: int = 0
    """CPU threads; 0 takes the fastest that `profile` has measured a table on, else torch's own choice"""
    cache_tokens: int = 0
    """On cuda, tokens that the cache holds, of all requests together; 0 takes most of the device's free memory"""

    graphs: bool = True
    """On cuda, compile layers and capture forwards as graphs, which takes up to a minute at the start; without, steps
    are several times slower"""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"pair.dtype is one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"pair.device is cpu, cuda or cuda:N, got {self.device!r}")
        require_between("pair.threads", self.threads, 0, MOST_THREADS)
        if self.cache_tokens:
            require_at_least("pair.cache_tokens", self.cache_tokens, LEAST_CACHE)
        if not self.graphs and self.device == "cpu":
            raise InputError("pair.graphs is false, but on pair.device cpu nothing is captured anyway; leave it out")
        if self.cache_tokens and self.device == "cpu":
            raise InputError(
                f"pair.cache_tokens {self.cache_tokens} sizes a device's cache, but pair.device is cpu, where the "
                "cache grows with its requests; leave it out"
            )


def reference_folder() -> Path:
    """Where the embedded reference pair lies: target/, drafter/ and prompts.jsonl."""
    return Path(__file__).resolve().parent.parent / "configs" / "pairs" / REFERENCE


def resolved(name: str, role: str) -> str:
    """The folder or hub id of a model that the configuration names."""
    return str(reference_folder() / role) if name == REFERENCE else os.path.expanduser(name)
