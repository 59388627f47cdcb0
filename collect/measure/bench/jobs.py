"""The texts that are generated, and under which conditions."""

import os
from typing import Any

import torch

from ....runtime.pair import Pair
from ....runtime.sampling import Sampling
from ...prompts.prompt import Prompt, prompt_ids
from .policies import Job
from .settings import BenchConfig

# Greedy runs of small models loop, which flatters every drafter.
GREEDY_MAX_TOKENS = 48


def bench_jobs(pair: Pair, prompts: list[Prompt], config: BenchConfig, temperature: float) -> list[Job]:
    """One per prompt, at a temperature."""
    max_tokens = config.max_tokens if temperature > 0 else min(config.max_tokens, GREEDY_MAX_TOKENS)
    return [
        Job(
            prompt_ids(prompt, pair.tokenizer),
            max_tokens,
            Sampling(temperature, top_p=config.top_p, seed=config.seed + number),
            prompt.domain,
        )
        for number, prompt in enumerate(prompts)
    ]


def conditions(pair: Pair) -> dict[str, Any]:
    """The conditions that every reported number needs; `batch` is 1 unless a report overrides it."""
    return {
        "pair": pair.name,
        "engine": pair.target.engine,
        "dtype": pair.number_format,
        "device": str(pair.target.device),
        "processor": pair.target.processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "batch": 1,
    }
