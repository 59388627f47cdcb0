"""The options of `make-pair`: the two models, how long they are trained, the prompts that come with them."""

from dataclasses import dataclass, field, fields

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ...controller.errors import InputError
from ...controller.ranges import LARGEST_SEED, require_above, require_at_least, require_between
from .tokenizer import LEAST_VOCABULARY

EPOCH_STEPS = 50  # optimiser steps between two saved states
MAX_POSITIONS = 2048


@dataclass(frozen=True)
class ModelSize:
    """A Llama-architecture model with tied embeddings and heads of 64."""

    num_layers: int
    """Decoder layers"""
    hidden_size: int
    """Width of the residual stream"""
    intermediate_size: int
    """Width of the feed-forward layers"""
    num_heads: int
    """Query heads"""
    num_key_value_heads: int
    """Key and value heads, shared by the query heads"""

    def check(self, name: str) -> None:
        """InputError under the option's name where there is no such model."""
        for size in fields(self):
            require_at_least(f"{name}.{size.name}", getattr(self, size.name), 1)
        if self.num_heads % self.num_key_value_heads:
            raise InputError(
                f"{name}.num_heads is a multiple of num_key_value_heads, got {self.num_heads} and "
                f"{self.num_key_value_heads}"
            )

    def build(self, vocabulary_size: int) -> LlamaForCausalLM:
        """A fresh model; outputs of the residual branches start smaller the deeper the model is."""
        config = LlamaConfig(
            vocab_size=vocabulary_size,
            num_hidden_layers=self.num_layers,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=64,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weights.mul_((2 * self.num_layers) ** -0.5)
        return model


@dataclass(frozen=True)
class PairShape:
    """The models; deep and narrow, so that a target step costs many drafter levels even at batch 1."""

    target: ModelSize = field(default_factory=lambda: ModelSize(38, 144, 352, 2, 1))
    """The target"""
    drafter: ModelSize = field(default_factory=lambda: ModelSize(2, 128, 352, 2, 1))
    """The drafter"""
    middle: ModelSize = field(default_factory=lambda: ModelSize(6, 192, 512, 3, 1))
    """The model between them that `middle` asks for"""
    vocabulary_size: int = 4096
    """Tokens of the byte-level BPE"""

    def __post_init__(self) -> None:
        self.target.check("shape.target")
        self.drafter.check("shape.drafter")
        self.middle.check("shape.middle")
        require_at_least("shape.vocabulary_size", self.vocabulary_size, LEAST_VOCABULARY)


@dataclass(frozen=True)
class PairFitConfig:
    """How long and on what each model is trained."""

    target_steps: int = 1800
    """Optimiser steps of the target, a multiple of 50"""
    drafter_steps: int = 1200
    """Optimiser steps of the drafter, or of the middle of a stack, a multiple of 50"""
    batch_size: int = 8
    """Windows per step"""
    window: int = 256
    """Tokens per window"""
    learning_rate: float = 4e-3
    """Peak step size; rises over the first 2 % of the steps, falls to zero over the last half"""
    compile: bool = False
    """Compile the models; half as fast again on a CPU, and needs a C++ compiler"""
    seed: int = 0
    """Seed of the weights and of the order"""

    def __post_init__(self) -> None:
        for name in ("target_steps", "drafter_steps"):
            if getattr(self, name) < EPOCH_STEPS or getattr(self, name) % EPOCH_STEPS:
                raise InputError(f"fit.{name} is a multiple of {EPOCH_STEPS}, got {getattr(self, name)}")
        require_at_least("fit.batch_size", self.batch_size, 1)
        require_between("fit.window", self.window, 1, MAX_POSITIONS)
        require_above("fit.learning_rate", self.learning_rate, 0)
        require_between("fit.seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class CutConfig:
    """Which prompts are cut from the library."""

    tune: int = 300
    """Prompts per domain to collect, train and tune on"""
    bench: int = 24
    """Prompts per domain to measure on, from held-out modules"""
    num_tokens: int = 100
    """Tokens per prompt"""

    def __post_init__(self) -> None:
        for name in ("tune", "bench", "num_tokens"):
            require_at_least(f"prompts.{name}", getattr(self, name), 1)
