"""Calls of transformers' `generate`, native or with a guest, on tiny float64 models."""

from functools import cache
from typing import Any

import tiny
import torch
from transformers.generation.logits_process import LogitsProcessor
from treewright import generate_with
from treewright.runtime.noise import KeyedNoise

TREE = (3, 3, 8)
PROMPT = torch.tensor([[5, 6, 7, 1, 2, 3]])
PADDED = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5], [0, 0, 0, 0, 9]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])


@cache
def target() -> Any:
    return tiny.llama().model


@cache
def drafter() -> Any:
    return tiny.llama(noise=0.02).model


@cache
def guest():
    """One for all tests; without a guard, which goes by the clock, so that trees are drafted to the end."""
    return generate_with(drafter(), dynamic=TREE, guard=False)


def generate(ids=PROMPT, custom_generate: Any = None, model: Any = None, **options: Any) -> Any:
    """With the mask of `PADDED` where that is given; greedy and 24 tokens if not said otherwise."""
    mask = MASK if ids is PADDED else torch.ones_like(ids)
    defaults = {"attention_mask": mask, "max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    model = model or target()
    return model.generate(ids, custom_generate=custom_generate, **defaults | options)


def new_tokens(sequences, ids=PROMPT):
    return sequences[:, ids.shape[1] :].tolist()


class Noise(LogitsProcessor):
    """Behind warpers, makes the native greedy choice the draw of a text's seed."""

    def __init__(self, seed, mask):
        self.noises = [KeyedNoise(seed, row, tiny.VOCABULARY_SIZE) for row in range(len(mask))]
        self.padding = (mask == 0).sum(dim=1).tolist()

    def __call__(self, input_ids, scores):
        position = input_ids.shape[1]
        rows = [noise.at(position - padding) for noise, padding in zip(self.noises, self.padding, strict=True)]
        return scores.double() + torch.stack(rows)
