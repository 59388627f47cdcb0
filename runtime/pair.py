"""A target and what drafts for it: a model that shares its tokenizer, or a head on its hidden states."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..controller.errors import InputError
from ..controller.ranges import MOST_THREADS, require_between
from .drafters.heads.base import DraftHead, head_kind, load_head
from .engines.transformers.detokeniser import TokenizerDetokeniser
from .engines.transformers.loading import load_tokenizer
from .engines.transformers.model import TransformersModel, num_rows
from .engines.transformers.static import StaticModel
from .machine.processor import processor_name
from .machine.threads import is_undecided, stored_fastest

REFERENCE = "reference"
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


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

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"pair.dtype is one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"pair.device is cpu, cuda or cuda:N, got {self.device!r}")
        require_between("pair.threads", self.threads, 0, MOST_THREADS)


@dataclass(frozen=True)
class Pair:
    target: TransformersModel
    source: TransformersModel | DraftHead
    """Where drafts come from"""
    tokenizer: Any
    end_tokens: frozenset[int]
    config: PairConfig

    @property
    def head(self) -> DraftHead | None:
        return self.source if isinstance(self.source, DraftHead) else None

    @property
    def drafter(self) -> TransformersModel:
        """The drafter model; InputError where a head drafts."""
        if isinstance(self.source, DraftHead):
            raise _no_model(self.config.drafter, self.source.kind)
        return self.source

    @cached_property
    def tokenizer_sha256(self) -> str:
        """Says whether another folder's tokens mean the same: a hash of the vocabulary."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    @property
    def detokeniser(self) -> TokenizerDetokeniser:
        return TokenizerDetokeniser(self.tokenizer.backend_tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt; InputError for what is no Unicode text.

        Where a locale knows no UTF-8, Python hands over the bytes of a command line as surrogates; they are read anew.
        """
        try:
            text = text.encode(errors="surrogateescape").decode()
        except UnicodeError as error:
            raise InputError("the prompt is no Unicode text; give it in UTF-8") from error
        return self.tokenizer(text)["input_ids"]

    @property
    def name(self) -> str:
        """What latency tables and checkpoints call this pair."""
        if self.config.target == self.config.drafter == REFERENCE:
            return REFERENCE
        return f"{Path(self.config.target).name}+{Path(self.config.drafter).name}"

    @cached_property
    def fingerprint(self) -> str:
        """Tells this pair from others of the same names: a hash of both configurations and weights."""
        return hashlib.sha256((self.target.fingerprint + self.source.fingerprint).encode()).hexdigest()

    @property
    def latency_key(self) -> dict[str, str]:
        """Where a latency table of this pair holds."""
        return {
            "pair": self.name,
            "fingerprint": self.fingerprint,
            "engine": "transformers",
            "device": str(self.target.device),
            "processor": processor_name(self.target.device),
            "dtype": self.config.dtype,
            "threads": str(torch.get_num_threads()),
        }


def load_pair(config: PairConfig, *, heads: bool = False) -> Pair:
    """Load both models; InputError in one sentence where one is missing or the tokenizers differ, and, unless `heads`
    will do, where the drafter is one."""
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {config.device!r} is asked for, but this machine has no CUDA; use device=cpu")
    if config.threads:
        torch.set_num_threads(config.threads)
    target_name, drafter_name = _resolve(config.target, "target"), _resolve(config.drafter, "drafter")
    kind = head_kind(drafter_name)
    if kind is not None and not heads:
        raise _no_model(config.drafter, kind)
    tokenizer = load_tokenizer(target_name)
    if kind is None:
        _check_tokens(config, tokenizer, load_tokenizer(drafter_name))
    # On a device every launch costs, so shapes are few and captured; a CPU pays for padding instead, and a head reads
    # hidden states, which graphs do not hand out.
    model = TransformersModel if config.device == "cpu" or kind is not None else StaticModel
    how: dict[str, Any] = {"dtype": DTYPES[config.dtype], "device": config.device}
    target = model.from_pretrained(target_name, **how)
    # Ids may have holes, and added ones may lie beyond a model's rows; rows beyond the last id only pad a model.
    target.vocabulary_size = min(max(tokenizer.get_vocab().values()) + 1, num_rows(target.model))
    if kind is None:
        source = model.from_pretrained(drafter_name, **how)
        _check_rows(config, target, source)
        source.vocabulary_size = target.vocabulary_size
    else:
        source = load_head(drafter_name, target)
    pair = Pair(target, source, tokenizer, _end_tokens(config.target, target, tokenizer), config)
    if is_undecided(config.threads, config.device):
        torch.set_num_threads(stored_fastest(pair.latency_key) or torch.get_num_threads())
    return pair


def _check_tokens(config: PairConfig, tokenizer: Any, other: Any) -> None:
    if tokenizer.get_vocab() != other.get_vocab():
        if config.drafter == REFERENCE:
            raise InputError(
                f"pair.drafter is not given, and the reference pair's has another tokenizer than target "
                f"{config.target!r}; give a drafter of the target's family"
            )
        raise InputError(
            f"target {config.target!r} and drafter {config.drafter!r} have different tokenizers "
            f"({len(tokenizer)} and {len(other)} tokens); a draft token must mean the same to both, so choose a "
            "drafter of the target's family"
        )


def _check_rows(config: PairConfig, target: TransformersModel, drafter: TransformersModel) -> None:
    if num_rows(drafter.model) < target.vocabulary_size:
        raise InputError(
            f"drafter {config.drafter!r} has rows for {num_rows(drafter.model)} tokens, but target {config.target!r} "
            f"generates {target.vocabulary_size} different ones; choose a drafter that knows all of them"
        )


def _no_model(name: str, kind: str) -> InputError:
    return InputError(f"drafter {name!r} is {kind}, which drafts in `generate` and `serve` only; give a drafter model")


def reference_folder() -> Path:
    """Where the embedded reference pair lies: target/, drafter/ and prompts.jsonl."""
    return Path(__file__).resolve().parent.parent / "configs" / "pairs" / REFERENCE


def _resolve(name: str, role: str) -> str:
    return str(reference_folder() / role) if name == REFERENCE else os.path.expanduser(name)


def _end_tokens(name: str, target: TransformersModel, tokenizer: Any) -> frozenset[int]:
    """Where transformers looks: the generation's configuration, else the model's; else what the tokenizer calls so."""
    config, generation = target.model.config, target.model.generation_config
    for source in (generation, config, config.get_text_config(), tokenizer):
        ends = getattr(source, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else ends or []
        if not isinstance(ends, list) or not all(isinstance(end, int) for end in ends):
            raise InputError(f"eos_token_id of {name!r} is a token id or a list of them, got {ends!r}; correct it")
        known = [end for end in ends if end >= 0]
        if known:
            return frozenset(known)
    return frozenset()
