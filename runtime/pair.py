"""A target and what drafts for it: a model that shares its tokenizer, or a head on its hidden states."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..controller.errors import InputError
from .drafters.heads.base import DraftHead
from .engines.transformers.detokeniser import TokenizerDetokeniser
from .engines.transformers.model import TransformersModel
from .engines.transformers.pair import load_models, no_model
from .machine.processor import processor_name
from .machine.threads import is_undecided, stored_fastest
from .pair_config import DTYPES, REFERENCE, PairConfig, reference_folder

__all__ = ["DTYPES", "REFERENCE", "Pair", "PairConfig", "load_pair", "reference_folder"]


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
            raise no_model(self.config.drafter, self.source.kind)
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
    pair = Pair(*load_models(config, heads=heads), config)
    if is_undecided(config.threads, config.device):
        torch.set_num_threads(stored_fastest(pair.latency_key) or torch.get_num_threads())
    return pair
