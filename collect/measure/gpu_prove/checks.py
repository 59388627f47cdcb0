"""Correctness on a device, by the reference pair."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from ....controller.contract import COUPLED
from ....controller.policies.selector import Selector
from ....controller.scorers.confidence import ConfidenceScorer
from ....controller.trees.limits import TreeLimits
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.engines.transformers.pages import PAGE, PackedRows, dense_attention, kernels
from ....runtime.engines.transformers.pair import transformers_model
from ....runtime.engines.transformers.static import StaticModel
from ....runtime.machine.transfer import to_device
from ....runtime.pair import Pair, PairConfig, load_pair
from ....runtime.pair_config import DTYPES
from ....runtime.request import Request
from ....runtime.sampling import Sampling

LIMITS = TreeLimits(max_depth=6, width=4, frontier=8, budget=24, ngrams=True)
PROMPTS = ("import os\n\n\ndef read(", "The first thing to say about it is", "| a | b |\n|---|---|\n", "class Tree:\n")
# Of the attention, relative to its largest output, which bfloat16 rounds to one part in 256.
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2}
ATTENTION_SIZES = (((1,), (300,)), ((16, 1, 5), (700, 0, 33)), ((64, 64), (4000, 64)))


def checks(device: str) -> Iterator[tuple[str, bool]]:
    """(claim, whether it holds) pairs."""
    for dtype in ("float32", "bfloat16"):
        pair = load_pair(PairConfig(device=device, dtype=dtype))
        yield f"captured forwards equal uncaptured ones, {dtype}", captures_rightly(pair)
        if dtype == "float32":
            yield f"trees generate the texts of plain decoding, {dtype}", generates_plain_texts(pair)
        for counts, lengths in ATTENTION_SIZES:
            error = kernel_error(torch.device(device), DTYPES[dtype], counts, lengths)
            yield f"attention of {counts} rows behind {lengths}, {dtype}", error <= TOLERANCES[dtype]


def captures_rightly(pair: Pair) -> bool:
    """Forwards of several sizes over two texts, each twice: a graph is replayed from the second on."""
    target = transformers_model(pair.target, "gpu-prove")
    models = [StaticModel(target.model, target.vocabulary_size, captures=captures) for captures in (True, False)]
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
    prompts = [pair.encode(text) for text in PROMPTS]
    decoders = plain_decoder(pair), tree_decoder(pair, COUPLED, Selector(ConfidenceScorer(), LIMITS))
    for temperature in (0.0, 0.6, 1.0):
        requests = [
            Request(prompt, 48, Sampling(temperature=temperature, seed=seed)) for seed, prompt in enumerate(prompts)
        ]
        plain, drafted = ([text.token_ids for text in decoder.generate(requests)[0]] for decoder in decoders)
        if plain != drafted:
            return False
    return True


def kernel_error(device: torch.device, dtype: torch.dtype, counts: Sequence[int], lengths: Sequence[int]) -> float:
    """Largest difference between the kernel's attention and the dense one in float64, relative to the largest output:
    texts of `lengths` committed rows, with `counts` rows of a tree each, over pages in any order."""
    generator, num_texts, block_rows = np.random.default_rng(0), len(counts), 4
    num_pages = (max(lengths) + max(counts)) // PAGE + 1
    tables = 1 + generator.permutation(num_texts * num_pages).reshape(num_texts, num_pages)
    slots, num_rows, num_seen = np.repeat(np.arange(num_texts), counts), sum(counts), max(counts)
    firsts = np.cumsum([0, *counts])
    blocks = [
        (first + before, min(block_rows, count - before))
        for first, count in zip(firsts, counts, strict=False)
        for before in range(0, count, block_rows)
    ]
    of_rows = np.array(lengths)[slots]
    seen = generator.random((num_rows, num_seen)) < 0.5
    there = partial(to_device, device=device)
    rows = PackedRows(
        tables=there(tables.astype(np.int32)),
        slots=there(slots),
        lengths=there(of_rows),
        positions=there(of_rows),
        num_seen=there(np.array([num_seen])),
        seen=there(seen.ravel().astype(np.uint8)),
        blocks=there(np.array(blocks).T),
        block_rows=block_rows,
    )
    of_storage = ((num_texts * num_pages + 1) * PAGE, 2, 128)
    keys, values = (torch.randn(of_storage, device=device, dtype=dtype) for _ in range(2))
    query = torch.randn((num_rows, 8, 128), device=device, dtype=dtype).transpose(0, 1)
    exact = dense_attention(query.double(), keys.double(), values.double(), rows, scale=128**-0.5)
    found = kernels(dtype, device).attend(query, keys, values, rows, scale=128**-0.5)
    return float((found.double() - exact).abs().max() / exact.abs().max())
