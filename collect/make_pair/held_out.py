"""What is kept from the models: held-out prompts as committed text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from .corpus import Document

# Of the held-out modules, this share serves measuring; the others serve collecting, training and tuning.
BENCH_PERCENT = 30


def cut_prompts(
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    *,
    prompts_per_domain: dict[str, int],
    num_tokens: int,
    seed: int,
) -> list[dict[str, Any]]:
    """JSONL rows: prompts of about `num_tokens` that begin at a line, so many per split in each domain.

    Both splits take their documents in turn; a module is in one split only, in all of its domains.
    """
    generator = np.random.default_rng(seed)
    held_out = [document for document in documents if document.held_out]
    modules = sorted({document.module for document in held_out})
    for_bench = set(generator.permutation(modules)[: round(len(modules) * BENCH_PERCENT / 100)].tolist())
    rows = []
    for split, count in prompts_per_domain.items():
        for domain in sorted({document.domain for document in held_out}):
            chosen = [
                one for one in held_out if one.domain == domain and (one.module in for_bench) == (split == "bench")
            ]
            for number in range(count):
                document = chosen[number % len(chosen)]
                prompt = _cut(tokenizer, document.text, num_tokens, generator)
                rows.append({"split": split, "domain": domain, "document": document.module, "prompt": prompt})
    return rows


def _cut(tokenizer: PreTrainedTokenizerFast, text: str, num_tokens: int, generator: np.random.Generator) -> str:
    """A stretch of `num_tokens` tokens from the start of some line, not so late that the document would end in it."""
    starts = [0] + [place + 1 for place, letter in enumerate(text) if letter == "\n"]
    early = [start for start in starts if start < 0.7 * len(text)]
    start = early[generator.integers(len(early))]
    ids = tokenizer(text[start : start + 20 * num_tokens])["input_ids"][:num_tokens]
    return tokenizer.decode(ids)
