"""A pair measured on held-out text, and the page that reports the measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ...controller.trees.tree import Array
from ..measure.bench.measure import repeated_four_grams
from .held_out import PromptRow
from .settings import PairFitConfig, PairShape

CARD = Path(__file__).with_name("card.md")
WINDOW, MAX_WINDOWS = 256, 64
NUM_TEXTS, TEXT_TOKENS = 24, 64


@dataclass(frozen=True)
class PairMeasurements:
    """What a pair does on held-out text."""

    target_loss: float  # nats per token
    drafter_loss: float
    greedy_agreement: float  # share of positions where both have the same most likely token
    overlap: float  # sum over tokens of the smaller probability
    repeated_4_grams: dict[str, float]  # share in sampled text, by temperature
    parameters: dict[str, int]  # by model


@torch.inference_mode()
def measure_pair(
    target: LlamaForCausalLM,
    drafter: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tokens: Array,
    prompts: Sequence[PromptRow],
) -> PairMeasurements:
    """Read held-out tokens [n] with both models, and let the target continue prompts."""
    bench = [row.prompt for row in prompts if row.split == "bench"]
    chosen = bench[:: max(1, len(bench) // NUM_TEXTS)][:NUM_TEXTS]
    return PairMeasurements(
        *compared(target, drafter, tokens),
        repeated_4_grams={str(each): round(_repetition(target, tokenizer, chosen, each), 3) for each in (0.6, 1.0)},
        parameters={
            name: sum(weights.numel() for weights in model.parameters())
            for name, model in (("target", target), ("drafter", drafter))
        },
    )


@torch.inference_mode()
def compared(target: LlamaForCausalLM, drafter: LlamaForCausalLM, tokens: Array) -> list[float]:
    """Both losses, greedy agreement and overlap (see `PairMeasurements`) on held-out tokens [n]."""
    count = min(MAX_WINDOWS, len(tokens) // (WINDOW + 1))
    starts = np.linspace(0, len(tokens) - WINDOW - 1, count).astype(int)
    sums = np.zeros(4)
    for start in starts:
        window = torch.from_numpy(tokens[start : start + WINDOW + 1])[None]
        rows = [model(input_ids=window[:, :-1]).logits[0].log_softmax(-1) for model in (target, drafter)]
        sums += _statistics(*rows, labels=window[0, 1:])
    return [round(float(value), 3) for value in sums / count]


def _statistics(target: Tensor, drafter: Tensor, *, labels: Tensor) -> Array:
    """Means over the window [T, V]: both losses, greedy agreement, overlap."""
    columns = (
        -target.gather(1, labels[:, None])[:, 0],
        -drafter.gather(1, labels[:, None])[:, 0],
        (target.argmax(-1) == drafter.argmax(-1)).float(),
        torch.minimum(target.exp(), drafter.exp()).sum(-1),
    )
    return np.array([float(column.mean()) for column in columns])


def _repetition(target: Any, tokenizer: Any, prompts: Sequence[str], temperature: float) -> float:
    torch.manual_seed(0)
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        output = target.generate(**ids, max_new_tokens=TEXT_TOKENS, min_new_tokens=TEXT_TOKENS, **sampling)
        texts.append(output[0, ids["input_ids"].shape[1] :].tolist())
    return repeated_four_grams(texts)


def pair_card(shape: PairShape, fit: PairFitConfig, measured: PairMeasurements, training_tokens: int) -> str:
    """Markdown for the pair's README."""
    return CARD.read_text(encoding="utf-8").format(
        shape=shape,
        fit=fit,
        measured=measured,
        training_millions=training_tokens / 1e6,
        millions={name: f"{count / 1e6:.1f} M" for name, count in measured.parameters.items()},
        repeated=measured.repeated_4_grams,
    )
