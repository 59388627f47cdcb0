"""Are the texts of trees those of plain decoding? Where one is not, how close was the choice?

llama.cpp's kernels for one row and for several add up in another order. A choice is a near-tie where the two best
scores, noise included, are closer than that rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ....controller.console import track
from ....controller.contract import COUPLED
from ....controller.policies.eagle2 import eagle2
from ....controller.trees.limits import TreeLimits
from ....runtime.build import plain_decoder, tree_decoder
from ....runtime.machine.transfer import to_device
from ....runtime.pair import Pair
from ....runtime.request import Request
from ....runtime.sampling import TokenSampler
from ...labels.rows import read_rows
from ..bench.policies import Job

LIMITS = TreeLimits(max_depth=4, width=4, frontier=4, budget=12)


class Choice(NamedTuple):
    """Where a text first differs from the plain one."""

    position: int
    gap: float  # between the two best scores of the plain row, over the temperature, noise included
    among_best: bool  # whether the two tokens are these two


@dataclass(frozen=True)
class Equality:
    """Texts of one temperature."""

    texts: int
    tokens: int
    unlike_plain: int
    block_efficiency: float
    choices: list[Choice]  # of the texts unlike plain

    @property
    def widest_gap(self) -> float:
        return max((choice.gap for choice in self.choices), default=0.0)


def compare_texts(pair: Pair, jobs: Sequence[Job], label: str) -> Equality:
    """Each text by plain decoding and by EAGLE-2's trees, one at a time."""
    plain, trees = plain_decoder(pair), tree_decoder(pair, COUPLED, eagle2(LIMITS))
    choices, num_tokens, num_steps = [], 0, 0
    for job in track(jobs, label):
        texts, steps = [], 0
        for decoder in (plain, trees):
            (text,), stats = decoder.generate([job.request])
            texts.append(text.token_ids)
            steps = stats.num_steps
        num_tokens, num_steps = num_tokens + len(texts[1]), num_steps + steps
        choices += list(_first_difference(pair, job.request, *texts))
    return Equality(len(jobs), num_tokens, len(choices), round(num_tokens / num_steps, 3), choices)


@torch.inference_mode()
def _first_difference(pair: Pair, request: Request, plain: list[int], other: list[int]) -> Iterator[Choice]:
    """None for equal texts."""
    different = np.nonzero(np.array(plain) != np.array(other))[0]
    if not len(different):
        return
    number = int(different[0])
    prefix = np.array([*request.prompt_ids, *plain[:number], plain[number]])
    sampler = TokenSampler([request.sampling], pair.target.vocabulary_size, pair.target.device)
    scores = sampler.warp(read_rows(pair.target, prefix, len(prefix) - 2).logits[None])[0, -1]
    noise = sampler.noise(to_device(np.array([[len(prefix) - 1]]), pair.target.device))
    best = (scores if noise is None else scores + noise[0, 0]).topk(2)
    gap = float(best.values[0] - best.values[1])
    yield Choice(number, round(gap, 6), set(best.indices.tolist()) == {plain[number], other[number]})
