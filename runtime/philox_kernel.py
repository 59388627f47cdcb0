"""Gumbel noise on CUDA in one kernel: the generator and both logarithms, with nothing stored in between."""

from typing import Any

import torch

# Triton comes with the builds of torch for CUDA alone.
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from .philox import MULTIPLIERS, ROUNDS, WEYL

BLOCK = 256  # of four tokens each, per program
NUM_ROUNDS = tl.constexpr(ROUNDS)
MULTIPLIER0, MULTIPLIER1 = tl.constexpr(MULTIPLIERS[0]), tl.constexpr(MULTIPLIERS[1])
WEYL0, WEYL1 = tl.constexpr(WEYL[0]), tl.constexpr(WEYL[1])


def launch(keys: Tensor, vocabulary_size: int) -> Tensor:
    """As `gumbel_rows`; it waits for nothing and may be captured in a graph once it has been compiled."""
    noise = torch.empty((len(keys), vocabulary_size), dtype=torch.float32, device=keys.device)
    grid = (len(keys), triton.cdiv(vocabulary_size, 4 * BLOCK))
    kernel: Any = _fill
    with torch.cuda.device_of(keys):
        kernel[grid](keys.contiguous(), noise, vocabulary_size, BLOCK)
    return noise


@triton.jit
def _fill(keys, noise, vocabulary_size, size: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    first_block = tl.program_id(1) * size
    seed = tl.load(keys + 4 * row)
    position = tl.load(keys + 4 * row + 2)
    key0, key1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    x0 = (tl.load(keys + 4 * row + 3) + first_block + tl.arange(0, size)).to(tl.uint32)
    x1, x2 = position.to(tl.uint32), (position >> 32).to(tl.uint32)
    x3 = tl.load(keys + 4 * row + 1).to(tl.uint32)
    for _ in tl.static_range(NUM_ROUNDS):
        high0, low0 = tl.umulhi(x0, MULTIPLIER0), x0 * MULTIPLIER0
        high1, low1 = tl.umulhi(x2, MULTIPLIER1), x2 * MULTIPLIER1
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0
        key0 += WEYL0
        key1 += WEYL1
    # Interleaved twice, a block's four words lie side by side.
    words = tl.interleave(tl.interleave(x0, x2), tl.interleave(x1, x3))
    # 1 - u is exact in float64, so that log(1 - u) is as good as log1p(-u).
    uniform = (words.to(tl.float64) + 0.5) * 2.3283064365386963e-10
    gumbel = -tl.log(-tl.log(1.0 - uniform))
    tokens = 4 * first_block + tl.arange(0, 4 * size)
    tl.store(noise + row * vocabulary_size + tokens, gumbel.to(tl.float32), mask=tokens < vocabulary_size)
