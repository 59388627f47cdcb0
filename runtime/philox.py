"""Gumbel noise as a pure function of numbered words: the generator behind all of the product's randomness.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Its integers are the same on
every device. The host makes them in numpy, in place; CUDA in one kernel where Triton is there; other devices in torch.
"""

from functools import cache
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
ROUNDS = 10

Word = TypeVar("Word", Tensor, int)


def philox(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word] | tuple[int, int]) -> tuple[Word, ...]:
    """Four streams of 32-bit words from four counter words and two key words.

    The words are broadcastable int64 tensors, or Python integers where a single one is wanted. Products of two 32-bit
    words wrap modulo 2^64 in int64, which keeps all their bits; the arithmetic shift is masked to the high word.
    """
    x0, x1, x2, x3 = counter
    key0, key1 = key
    for _ in range(ROUNDS):
        product0, product1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]
        x0, x1, x2, x3 = (
            ((product1 >> 32) & MASK) ^ x1 ^ key0,
            product1 & MASK,
            ((product0 >> 32) & MASK) ^ x3 ^ key1,
            product0 & MASK,
        )
        key0, key1 = (key0 + WEYL[0]) & MASK, (key1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def gumbel_rows(keys: Tensor, vocabulary_size: int) -> Tensor:
    """[n, V] float32 standard Gumbel noise, token by token.

    keys: [n, 4] int64, of each row the seed's 64 bits, the choice, the position, and the counter's word of token 0; a
    word has the noise of four tokens.
    """
    if keys.device.type == "cpu":
        words = _words_on_host(keys.numpy(), np.arange((vocabulary_size + 3) // 4)[None])
        return _standard_gumbel(torch.from_numpy(words)).flatten(1)[:, :vocabulary_size]
    if keys.device.type == "cuda" and _has_triton():
        from .philox_kernel import launch

        return launch(keys, vocabulary_size)
    return gumbel_in_torch(keys, vocabulary_size)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def gumbel_in_torch(keys: Tensor, vocabulary_size: int) -> Tensor:
    """The same, in a hundred ops of any device's."""
    seed, choice, position, first = keys.T[:, :, None]
    blocks = torch.arange((vocabulary_size + 3) // 4, device=keys.device)
    words = philox(
        (first + blocks, position & MASK, (position >> 32) & MASK, choice), (seed & MASK, (seed >> 32) & MASK)
    )
    return _standard_gumbel(torch.stack(words, dim=-1)).flatten(1)[:, :vocabulary_size]


def gumbel_of(keys: Array, tokens: Array) -> Array:
    """[n, m] float32: of the rows of `gumbel_rows` on the host only the columns of `tokens` [m]."""
    words = _words_on_host(keys, (tokens >> 2)[None])
    picked = np.take_along_axis(words, (tokens & 3)[None, :, None], axis=2)
    return _standard_gumbel(torch.from_numpy(picked))[..., 0].numpy()


def _words_on_host(keys: Array, blocks: Array) -> Array:
    """[n, m, 4] uint32 words of rows `keys` [n, 4] at token `blocks` [1, m].

    Numpy's 64-bit integer ops, in place, take little more than half the time of torch's.
    """
    key = keys.view(np.uint64)[:, :, None]
    low, high, mask = np.uint64(MASK), np.uint64(32), np.uint64(MASK)
    x0, x1, x2, x3, product0, product1 = np.empty((6, len(keys), blocks.shape[1]), dtype=np.uint64)
    np.add(key[:, 3], blocks.astype(np.uint64), out=x0)
    x1[:], x2[:], x3[:] = key[:, 2] & low, key[:, 2] >> high, key[:, 1]
    key0, key1 = key[:, 0] & low, key[:, 0] >> high
    multipliers, weyl = np.array(MULTIPLIERS, dtype=np.uint64), np.array(WEYL, dtype=np.uint64)
    for _ in range(ROUNDS):
        np.multiply(x0, multipliers[0], out=product0)
        np.multiply(x2, multipliers[1], out=product1)
        np.right_shift(product1, high, out=x0)
        np.bitwise_xor(x0, x1, out=x0)
        np.bitwise_xor(x0, key0, out=x0)
        np.bitwise_and(product1, mask, out=x1)
        np.right_shift(product0, high, out=x2)
        np.bitwise_xor(x2, x3, out=x2)
        np.bitwise_xor(x2, key1, out=x2)
        np.bitwise_and(product0, mask, out=x3)
        key0, key1 = (key0 + weyl[0]) & mask, (key1 + weyl[1]) & mask
    words = np.empty((*x0.shape, 4), dtype=np.uint32)
    for column, word in enumerate((x0, x1, x2, x3)):
        words[..., column] = word
    return words


def _standard_gumbel(words: Tensor) -> Tensor:
    """float32 of the shape of the 32-bit `words`: -log(-log(1 - u)) resolves, with log1p, the upper tail, where the
    winners are, to one part in 2^32."""
    uniform = words.to(torch.float64, copy=True).add_(0.5).mul_(-(2.0**-32))
    return uniform.log1p_().neg_().log_().neg_().float()
