"""What the choice of tokens takes at a large vocabulary, beside llama.cpp's own work there."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from ....controller.trees.tree import Array
from ....runtime.engines.base import append_text
from ....runtime.engines.llamacpp.config import LlamaCppConfig
from ....runtime.engines.llamacpp.export.file import write_gguf
from ....runtime.engines.llamacpp.loading import load_model
from ....runtime.engines.llamacpp.model import LlamaCppModel
from ....runtime.engines.transformers.loading import load_tokenizer
from ....runtime.pair_config import REFERENCE, resolved
from ....runtime.sampling import Sampling, TokenSampler

VOCABULARY = 152_064
# A model of half a billion parameters, as models with that vocabulary begin.
SIZES: Any = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
CONTEXT, REPEATS = 64, 7
SAMPLINGS = {"T = 0": Sampling(0.0), "T = 1": Sampling(1.0), "T = 1, top-p 0.9": Sampling(1.0, top_p=0.9)}


@dataclass(frozen=True)
class ChoiceTime:
    """A target step over the root and its `nodes` children, and the choice of a token behind each of them."""

    sampling: str
    nodes: int
    forward_ms: float
    choice_ms: float
    noise_ms: float  # of the choice: that of the positions which no step before has asked for
    share: float  # of the choice in both


def choice_times(nodes: tuple[int, ...] = (0, 4, 12)) -> list[ChoiceTime]:
    """Of a random model in F16, on torch's threads."""
    with tempfile.TemporaryDirectory() as folder:
        model = _large_model(Path(folder))
    model.open(1, CONTEXT + max(nodes) + 1)
    append_text(model, 0, np.arange(1, CONTEXT + 1))
    return [row for count in nodes for row in _times(model, count)]


def _large_model(folder: Path) -> LlamaCppModel:
    with torch.device("meta"):
        network = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **SIZES))
    generator = torch.Generator().manual_seed(0)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.02, generator=generator)
    write_gguf(folder / "large.gguf", "large", network, load_tokenizer(resolved(REFERENCE, "target")), [0], "f16")
    model = load_model(str(folder / "large.gguf"), LlamaCppConfig())
    model.vocabulary_size = VOCABULARY  # the tokenizer's few would leave most rows out
    return model


def _times(model: LlamaCppModel, num_nodes: int) -> Iterator[ChoiceTime]:
    parents = np.array([[-1, *[0] * num_nodes]])
    depths = np.minimum(parents + 1, 1)
    positions = CONTEXT + depths

    def forward() -> Tensor:
        logits = model.forward(parents + 2, positions, parents)
        model.commit(np.zeros((0, 0), dtype=np.int64))
        return logits

    forward_ms = _median_ms(lambda step: forward())
    logits, num_new = _peaked_rows(num_nodes + 1), int(depths.max()) + 1
    for name, sampling in SAMPLINGS.items():
        sampler = TokenSampler([sampling], VOCABULARY, model.device)
        fresh = TokenSampler([sampling], VOCABULARY, model.device)
        choice_ms = _median_ms(partial(_choose, sampler, logits, depths, num_new))
        noise_ms = _median_ms(partial(_make_noise, fresh, num_new))
        times = (round(ms, 2) for ms in (forward_ms, choice_ms, noise_ms))
        yield ChoiceTime(name, num_nodes, *times, share=round(choice_ms / (forward_ms + choice_ms), 3))


def _peaked_rows(count: int) -> Tensor:
    """[1, n, V] logits of Zipf's law with the exponent 2, for a random model's are flat: few tokens have most mass."""
    generator = torch.Generator().manual_seed(0)
    ranks = torch.stack([torch.randperm(VOCABULARY, generator=generator) for _ in range(count)])
    return -2 * (1 + ranks).float().log()[None]


def _choose(sampler: TokenSampler, logits: Tensor, depths: Array, num_new: int, step: int) -> None:
    sampler.draw_all(logits, np.array([step * num_new]), depths)


def _make_noise(sampler: TokenSampler, num_new: int, step: int) -> None:
    sampler.noise(torch.arange(step * num_new, (step + 1) * num_new)[None])


def _median_ms(part: Callable[[int], object]) -> float:
    """Of a part by the number of its run, the first of which is for warming up."""
    times = []
    for step in range(REPEATS + 1):
        started = perf_counter()
        part(step)
        times.append((perf_counter() - started) * 1e3)
    return median(times[1:])
