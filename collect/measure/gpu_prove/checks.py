"""Correctness on a device, by the reference pair."""

from collections.abc import Iterator

import numpy as np
import torch

from ....controller.contract import COUPLED
from ....controller.policies.selector import Selector
from ....controller.scorers.confidence import ConfidenceScorer
from ....controller.trees.limits import TreeLimits
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.engines.transformers.attention import dense_attention, flash_prefix
from ....runtime.engines.transformers.static import StaticModel
from ....runtime.pair import Pair, PairConfig, load_pair
from ....runtime.request import Request
from ....runtime.sampling import Sampling

LIMITS = TreeLimits(max_depth=6, width=4, frontier=8, budget=24, ngrams=True)
PROMPTS = ("import os\n\n\ndef read(", "The first thing to say about it is", "| a | b |\n|---|---|\n", "class Tree:\n")
# Both kernels round their output to half precision.
HALF_TOLERANCE = 2e-3


def checks(device: str) -> Iterator[tuple[str, bool]]:
    """(claim, whether it holds) pairs."""
    for dtype in ("float32", "bfloat16"):
        pair = load_pair(PairConfig(device=device, dtype=dtype))
        yield f"captured forwards equal uncaptured ones, {dtype}", captures_rightly(pair)
        if dtype == "float32":
            yield f"trees generate the texts of plain decoding, {dtype}", generates_plain_texts(pair)
    if device != "cpu":  # where there is no such kernel
        yield "the flash kernel's part of the attention is the dense one", flash_is_right(torch.device(device))


def captures_rightly(pair: Pair) -> bool:
    """Forwards of several sizes over two texts, each twice: a graph is replayed from the second on."""
    models = [
        StaticModel(pair.target.model, pair.target.vocabulary_size, captures=captures) for captures in (True, False)
    ]
    generator = np.random.default_rng(0)
    for model in models:
        model.open(2, 200)
    for num_rows in (1, 5, 33) * 2:
        tokens = generator.integers(pair.target.vocabulary_size, size=(2, num_rows))
        rows = np.arange(num_rows)[None].repeat(2, axis=0)
        positions = models[0].lengths[:, None] + rows
        captured, others = (model.forward(tokens, positions, rows - 1) for model in models)
        if not torch.equal(captured, others):
            return False
        for model in models:
            model.commit(rows)
    return True


def generates_plain_texts(pair: Pair) -> bool:
    """Four texts side by side at three temperatures, with trees and without."""
    prompts = [pair.tokenizer(text)["input_ids"] for text in PROMPTS]
    decoders = plain_decoder(pair), tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS))
    for temperature in (0.0, 0.6, 1.0):
        requests = [
            Request(prompt, 48, Sampling(temperature=temperature, seed=seed)) for seed, prompt in enumerate(prompts)
        ]
        plain, drafted = ([text.token_ids for text in decoder.generate(requests)[0]] for decoder in decoders)
        if plain != drafted:
            return False
    return True


def flash_is_right(device: torch.device) -> bool:
    """Three texts of uneven lengths, one of them with nothing committed."""
    lengths = torch.tensor([700, 0, 33], dtype=torch.int32, device=device)
    query = torch.randn(3, 8, 16, 64, device=device, dtype=torch.float16)
    keys, values = torch.randn(2, 3, 1024, 2, 64, device=device, dtype=torch.float16)
    is_prefix = (torch.arange(1024, device=device) < lengths[:, None])[:, None, None]
    flash = flash_prefix(query, keys, values, lengths, 0.125)
    dense = dense_attention(query, keys, values, is_prefix, 0.125)
    return all(torch.allclose(*parts, atol=HALF_TOLERANCE) for parts in zip(flash, dense, strict=True))
