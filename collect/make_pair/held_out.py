"""Prompts of a pair as committed text: some to collect on, and some of held-out modules to measure on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...controller.errors import InputError
from .corpus import Document

# Of the modules the models never read, this share serves measuring. All others serve collecting, training and tuning,
# those that were read too: after about one pass the two models agree on them no more than on held-out ones.
BENCH_PERCENT = 30
# Prompts of a kind the pair never read, for measuring only.
UNLIKE = (
    (
        "Dear Margaret, thank you for your letter of the fourteenth. The garden has come on well since "
        "the rain, and the roses by the south wall are in full"
    ),
    ("Ingredients: 300 g flour, 2 eggs, 180 ml milk, a pinch of salt. Whisk the eggs with half of the milk, then"),
    (
        "SELECT customers.name, SUM(orders.total) AS spent FROM customers JOIN orders ON "
        "orders.customer_id = customers.id WHERE"
    ),
    (
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Point", '
        '"coordinates": [13.40, 52.52]}, "properties": {'
    ),
    (
        "Once upon a time, in a village at the edge of a deep forest, there lived a clockmaker who had "
        "three daughters. The eldest"
    ),
    "Le petit chat noir dort sur la chaise pres de la fenetre. Quand il entend la pluie, il",
    (
        "<html>\n<head><title>Opening hours</title></head>\n<body>\n<h1>Welcome to the museum</h1>\n<p>We "
        "are open from Tuesday to"
    ),
    (
        "Minutes of the meeting of 3 May. Present: Ms Alvarez, Mr Okoye, Dr Lindqvist. 1. The minutes of "
        "the last meeting were approved. 2. The treasurer reported"
    ),
    (
        "Q: A train leaves at nine and travels at 80 km per hour. Another leaves at ten and travels at "
        "120 km per hour. When do they meet? A:"
    ),
    "#include <stdio.h>\n\nint main(void) {\n    int i, total = 0;\n    for (i = 0; i < 10; i++) {",
    (
        "The committee finds that the defendant, having been duly notified, failed to appear; whereas "
        "the terms of the agreement provide that"
    ),
    "Monday: light rain, 12 degrees. Tuesday: sunny spells, 15 degrees. Wednesday:",
)


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
    held_out = sorted({document.module for document in documents if document.held_out})
    for_bench = set(generator.permutation(held_out)[: round(len(held_out) * BENCH_PERCENT / 100)].tolist())
    rows = []
    for split, count in prompts_per_domain.items():
        for domain in sorted({document.domain for document in documents}):
            chosen = [
                one for one in documents if one.domain == domain and (one.module in for_bench) == (split == "bench")
            ]
            if not chosen:
                raise InputError(f"the library has no documents of {domain} for the split {split!r}; give a larger one")
            order = generator.permutation(len(chosen))
            for number in range(count):
                document = chosen[order[number % len(chosen)]]
                prompt = _cut(tokenizer, document.text, num_tokens, generator)
                rows.append({"split": split, "domain": domain, "document": document.module, "prompt": prompt})
    rows += [
        {"split": "bench", "domain": "unlike", "document": f"unlike {number}", "prompt": prompt}
        for number, prompt in enumerate(UNLIKE, start=1)
    ]
    return rows


def _cut(tokenizer: PreTrainedTokenizerFast, text: str, num_tokens: int, generator: np.random.Generator) -> str:
    """A stretch of `num_tokens` tokens from the start of some line, not so late that the document would end in it."""
    starts = [0] + [place + 1 for place, letter in enumerate(text) if letter == "\n"]
    early = [start for start in starts if start < 0.7 * len(text)]
    start = early[generator.integers(len(early))]
    ids = tokenizer(text[start : start + 20 * num_tokens])["input_ids"][:num_tokens]
    return str(tokenizer.decode(ids))
