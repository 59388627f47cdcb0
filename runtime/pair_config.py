"""Which models decode, where and how."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..controller.errors import InputError
from ..controller.ranges import MOST_THREADS, require_at_least, require_between
from .engines.llamacpp.config import LlamaCppConfig

REFERENCE = "reference"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

TRANSFORMERS, LLAMACPP = ENGINES = ("transformers", "llamacpp")
GGUF = ".gguf"

LEAST_CACHE = 1024  # tokens: a step of one text takes some 300, besides its own


@dataclass(frozen=True)
class PairConfig:
    """Which two models decode, or which model with a head, and how."""

    target: str = REFERENCE
    """Folder or hub id of the target, or a GGUF file; `reference` is the pair that ships with treewright"""
    drafter: str = REFERENCE
    """Folder or hub id of the drafter, or a GGUF file, which shares the target's tokenizer; or, in `generate` and
    `serve`, the folder of a head made for the target, in safetensors: EAGLE-3 (layout of `speculators`) or Medusa; or,
    there, a stack of two drafters, "[SMALL, MIDDLE]": the small one drafts a few tokens, which the other reads"""
    dtype: str = "float32"
    """Number format that transformers holds both models in: float32, float64, bfloat16 or float16"""
    device: str = "cpu"
    """Where transformers runs both models: cpu or cuda"""
    threads: int = 0
    """CPU threads; 0 takes the fastest that `profile` has measured a table on, else torch's own choice"""
    cache_tokens: int = 0
    """On cuda, tokens that the cache holds, of all requests together; 0 takes most of the device's free memory"""
    graphs: bool = True
    """On cuda, compile layers and capture forwards as graphs, which takes up to a minute at the start; without, steps
    are several times slower"""
    engine: str | None = None
    """What runs the models: transformers or llamacpp; where none is given, a GGUF file as target asks for llamacpp"""
    llamacpp: LlamaCppConfig = field(default_factory=LlamaCppConfig)
    """How llama.cpp runs them"""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"pair.dtype is one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"pair.device is cpu, cuda or cuda:N, got {self.device!r}")
        require_between("pair.threads", self.threads, 0, MOST_THREADS)
        if self.cache_tokens:
            require_at_least("pair.cache_tokens", self.cache_tokens, LEAST_CACHE)
        if self.engine not in (None, *ENGINES):
            raise InputError(f"pair.engine is one of {', '.join(ENGINES)}, got {self.engine!r}")
        if len(self.drafters) not in (1, 2) or not all(self.drafters):
            raise InputError(
                f"pair.drafter {self.drafter!r} names {len(self.drafters)} drafters; a stack is of two, "
                '"[SMALL, MIDDLE]", the smaller first'
            )
        self._require_kind_of_models()
        self._refuse_idle()
        if not self.graphs and self.device == "cpu":
            raise InputError("pair.graphs is false, but on pair.device cpu nothing is captured anyway; leave it out")
        if self.cache_tokens and self.device == "cpu":
            raise InputError(
                f"pair.cache_tokens {self.cache_tokens} sizes a device's cache, but pair.device is cpu, where the "
                "cache grows with its requests; leave it out"
            )

    @property
    def drafters(self) -> tuple[str, ...]:
        """The names of a stack's models, the smaller first, or that of the one drafter."""
        if self.drafter.startswith("[") and self.drafter.endswith("]"):
            return tuple(name.strip().strip("\"'") for name in self.drafter[1:-1].split(","))
        return (self.drafter,)

    @property
    def engine_name(self) -> str:
        """The engine that was asked for, else the one that reads the target."""
        return self.engine or (LLAMACPP if is_gguf(self.target) else TRANSFORMERS)

    def _require_kind_of_models(self) -> None:
        """InputError for a model that the engine does not read."""
        for role, name in (("target", self.target), *(("drafter", name) for name in self.drafters)):
            if self.engine_name == TRANSFORMERS and is_gguf(name):
                raise InputError(
                    f"pair.{role} {name!r} is a GGUF file, which pair.engine transformers does not read; give the "
                    "model's folder, or GGUF files as target and drafter"
                )
            if self.engine_name == LLAMACPP and not is_gguf(name):
                raise InputError(
                    f"pair.engine llamacpp reads GGUF files, and pair.{role} is {name!r}; give a file that ends with "
                    f"{GGUF}, which `treewright export-gguf` writes"
                )

    def _refuse_idle(self) -> None:
        """InputError that names every option given that does nothing under the engine."""
        if self.engine_name == LLAMACPP and len(self.drafters) > 1:
            raise InputError(
                f"pair.drafter {self.drafter!r} is a stack, which pair.engine transformers alone runs; give one GGUF "
                "file"
            )
        if self.engine_name == TRANSFORMERS:
            others = {f"llamacpp.{name}": (LlamaCppConfig, name, self.llamacpp) for name in vars(self.llamacpp)}
        else:
            others = {name: (PairConfig, name, self) for name in ("dtype", "device", "cache_tokens", "graphs")}
        idle = [option for option, (of, name, at) in others.items() if getattr(at, name) != getattr(of, name)]
        if idle:
            raise InputError(
                f"under pair.engine {self.engine_name} the following does nothing: "
                f"{', '.join(f'pair.{option}' for option in idle)}; leave all of it out"
            )


def is_gguf(name: str) -> bool:
    return name.lower().endswith(GGUF)


def reference_folder() -> Path:
    """Where the embedded reference pair lies: target/, drafter/ and prompts.jsonl."""
    return Path(__file__).resolve().parent.parent / "configs" / "pairs" / REFERENCE


def resolved(name: str, role: str) -> str:
    """The folder or hub id of a model that the configuration names."""
    return str(reference_folder() / role) if name == REFERENCE else os.path.expanduser(name)


def is_reference(target: str, drafter: str) -> bool:
    """Whether two folders are those of the embedded pair."""
    return [Path(name).resolve() for name in (target, drafter)] == [
        reference_folder() / role for role in ("target", "drafter")
    ]
