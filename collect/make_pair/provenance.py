"""What a pair is worth, measured on text it has not read, and the page that says so."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ...controller.trees.tree import Array
from ..measure.bench.measure import repeated_four_grams

WINDOW, MAX_WINDOWS = 256, 64
NUM_TEXTS, TEXT_TOKENS = 24, 64


@torch.inference_mode()
def measure_pair(
    target: LlamaForCausalLM,
    drafter: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tokens: Array,
    prompts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Losses in nats per token, greedy agreement and overlap on held-out tokens [n]; repetition of sampled text."""
    count = min(MAX_WINDOWS, len(tokens) // (WINDOW + 1))
    starts = np.linspace(0, len(tokens) - WINDOW - 1, count).astype(int)
    sums = np.zeros(4)
    for start in starts:
        window = torch.from_numpy(tokens[start : start + WINDOW + 1])[None]
        rows = [model(input_ids=window[:, :-1]).logits[0].log_softmax(-1) for model in (target, drafter)]
        sums += _statistics(*rows, labels=window[0, 1:])
    names = ("target_loss", "drafter_loss", "greedy_agreement", "overlap")
    facts: dict[str, Any] = {name: round(float(value), 3) for name, value in zip(names, sums / count, strict=True)}
    bench = [row["prompt"] for row in prompts if row["split"] == "bench"]
    chosen = bench[:: max(1, len(bench) // NUM_TEXTS)][:NUM_TEXTS]
    facts["repeated_4_grams"] = {
        str(temperature): round(_repetition(target, tokenizer, chosen, temperature), 3) for temperature in (0.6, 1.0)
    }
    facts["parameters"] = {
        name: sum(weights.numel() for weights in model.parameters())
        for name, model in (("target", target), ("drafter", drafter))
    }
    return facts


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


def pair_card(facts: dict[str, Any]) -> str:
    """Markdown for the pair's README."""
    shape, fit = facts["shape"], facts["fit"]

    def row(name: str, key: str) -> str:
        return f"| {name} | {shape['target'][key]} | {shape['drafter'][key]} |"

    millions = {name: f"{count / 1e6:.1f} M" for name, count in facts["parameters"].items()}
    windows = f"{fit['batch_size']} windows of {fit['window']} tokens"
    repeated = facts["repeated_4_grams"]
    return f"""# The reference pair

Something real to decode on machines without a hub. Both models are Llama-architecture, stored as bf16 safetensors and
always loaded as float32 unless asked otherwise; they share one tokenizer (byte-level BPE, {shape["vocabulary_size"]}
tokens). Made by `treewright make-pair`; `provenance.json` holds every setting.

| | target | drafter |
|---|---|---|
| parameters | {millions["target"]} | {millions["drafter"]} |
{row("layers", "num_layers")}
{row("hidden size", "hidden_size")}
{row("query heads", "num_heads")}
{row("key and value heads", "num_key_value_heads")}
| held-out loss, nats per token | {facts["target_loss"]} | {facts["drafter_loss"]} |
| steps of {windows} | {fit["target_steps"]} | {fit["drafter_steps"]} |

Read: the Python standard library as source (tests left out), its docstrings and language reference as prose, its
functions as Markdown tables; {facts["training_tokens"] / 1e6:.1f} million tokens, every tenth module held out. The
drafter is distilled from the target (0.2 hard, 0.8 soft loss); `drafter-early` and `drafter-mid` are the same drafter
after a tenth and a third of its steps.

On held-out text: overlap (sum over tokens of the smaller probability) {facts["overlap"]}, greedy agreement
{facts["greedy_agreement"]}. Repeated 4-grams in sampled text: {repeated["1.0"]:.0%} at T = 1, {repeated["0.6"]:.0%}
at T = 0.6.

`prompts.jsonl`: prompts cut from the library, by domain. Split `bench`, for measuring only, is of held-out modules;
split `tune`, for collecting, training and tuning, of all others. The text is Python's, under the
[PSF License](https://docs.python.org/3/license.html).
"""
