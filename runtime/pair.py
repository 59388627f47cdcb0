"""A target and what drafts for it: a model that shares its tokenizer, or a head on its hidden states."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from ..controller.errors import InputError
from .drafters.heads.base import DraftHead, no_model
from .engines.base import LoadedModel
from .engines.loading import load_models
from .machine.threads import is_undecided, stored_fastest
from .pair_config import REFERENCE, PairConfig, is_reference, resolved
from .text.detokeniser import Detokeniser
from .text.tokenizer import Tokenizer, vocabulary_sha256


@dataclass(frozen=True)
class Pair:
    target: LoadedModel
    source: LoadedModel | DraftHead
    """Where drafts come from"""
    tokenizer: Tokenizer
    end_tokens: frozenset[int]
    config: PairConfig
    smaller: LoadedModel | None = None
    """What drafts for the drafter, in a stack"""

    @property
    def below(self) -> "Pair | None":
        """In a stack, the pair of the target and the smaller drafter."""
        if self.smaller is None:
            return None
        return replace(
            self, source=self.smaller, smaller=None, config=replace(self.config, drafter=self.config.drafters[0])
        )

    @property
    def head(self) -> DraftHead | None:
        return self.source if isinstance(self.source, DraftHead) else None

    @property
    def drafter(self) -> LoadedModel:
        """The drafter model; InputError where a head drafts."""
        if isinstance(self.source, DraftHead):
            raise no_model(self.config.drafter, self.source.kind)
        return self.source

    @cached_property
    def tokenizer_sha256(self) -> str:
        """See `vocabulary_sha256`."""
        return vocabulary_sha256(self.tokenizer.vocabulary)

    @property
    def detokeniser(self) -> Detokeniser:
        return self.tokenizer.detokeniser

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt; InputError for what is no Unicode text.

        Where the locale is not UTF-8, Python passes the bytes of a command line as surrogates; they are decoded here.
        """
        try:
            text = text.encode(errors="surrogateescape").decode()
        except UnicodeError as error:
            raise InputError("the prompt is no Unicode text; give it in UTF-8") from error
        return self.tokenizer.encode(text)

    @property
    def name(self) -> str:
        """Its name in latency tables and checkpoints."""
        drafter = self.config.drafters[-1]
        if is_reference(resolved(self.config.target, "target"), resolved(drafter, "drafter")):
            return REFERENCE
        return f"{Path(self.config.target).name}+{Path(drafter).name}"

    @cached_property
    def fingerprint(self) -> str:
        """A hash of both configurations and weights, different for another pair of the same name; of a stack it is that
        of the target and the larger drafter."""
        return hashlib.sha256((self.target.fingerprint + self.source.fingerprint).encode()).hexdigest()

    @property
    def number_format(self) -> str:
        """Of the target, and of the drafter where it is another."""
        formats = [self.target.number_format, *([] if self.head else [self.drafter.number_format])]
        return "+".join(dict.fromkeys(formats))

    @property
    def latency_key(self) -> dict[str, str]:
        """The conditions under which a latency table of this pair is valid."""
        return {
            "pair": self.name,
            "fingerprint": self.fingerprint,
            "engine": self.target.engine,
            "device": str(self.target.device),
            "processor": self.target.processor,
            "dtype": self.number_format,
            "threads": str(torch.get_num_threads()),
        }


def load_pair(config: PairConfig, *, heads: bool = False) -> Pair:
    """Load both models, on the threads that the configuration asks for; InputError as `load_models` says."""
    if config.threads:
        torch.set_num_threads(config.threads)
    loaded = load_models(config, heads=heads)
    pair = Pair(loaded.target, loaded.source, loaded.tokenizer, loaded.end_tokens, config, loaded.smaller)
    if is_undecided(config.threads, config.device):
        torch.set_num_threads(stored_fastest(pair.latency_key) or torch.get_num_threads())
    return pair
