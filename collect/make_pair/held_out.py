"""Prompts of a pair as committed text: some to collect on, and some of held-out modules to measure on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...controller.errors import InputError
from .corpus import Document
from .settings import CutConfig

# Percentage of the held-out modules that is for measuring. All other modules, those of the training text included, are
# for collecting, training and tuning: after one pass the two models agree on them no more than on held-out ones.
BENCH_PERCENT = 30
# Prompts of a kind the pair never read, for measuring only.
UNLIKE = Path(__file__).with_name("unlike.json")


class PromptRow(NamedTuple):
    """A line of the pair's `prompts.jsonl`."""

    split: str
    domain: str
    document: str
    prompt: str


def cut_prompts(
    tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], config: CutConfig, seed: int
) -> list[PromptRow]:
    """Prompts that begin at a line, so many per split in each domain.

    The prompts of a split cycle through its documents; a module is in one split only, in all of its domains.
    """
    generator = np.random.default_rng(seed)
    held_out = sorted({document.module for document in documents if document.held_out})
    for_bench = set(generator.permutation(held_out)[: round(len(held_out) * BENCH_PERCENT / 100)].tolist())
    rows = []
    for split, count in (("bench", config.bench), ("tune", config.tune)):
        for domain in sorted({document.domain for document in documents}):
            chosen = [
                one for one in documents if one.domain == domain and (one.module in for_bench) == (split == "bench")
            ]
            if not chosen:
                raise InputError(f"the library has no documents of {domain} for the split {split!r}; give a larger one")
            order = generator.permutation(len(chosen))
            for number in range(count):
                document = chosen[order[number % len(chosen)]]
                prompt = _cut(tokenizer, document.text, config.num_tokens, generator)
                rows.append(PromptRow(split, domain, document.module, prompt))
    unlike = enumerate(json.loads(UNLIKE.read_text(encoding="utf-8")), start=1)
    return rows + [PromptRow("bench", "unlike", f"unlike {number}", prompt) for number, prompt in unlike]


def _cut(tokenizer: PreTrainedTokenizerFast, text: str, num_tokens: int, generator: np.random.Generator) -> str:
    """A stretch of `num_tokens` tokens from the start of some line, not so late that the document would end in it."""
    starts = [0] + [index + 1 for index, letter in enumerate(text) if letter == "\n"]
    early = [start for start in starts if start < 0.7 * len(text)]
    start = early[generator.integers(len(early))]
    ids = tokenizer(text[start : start + 20 * num_tokens])["input_ids"][:num_tokens]
    return str(tokenizer.decode(ids))
