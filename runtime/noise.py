"""The product's random number generator: keyed Gumbel noise, a pure function of where a token stands.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in 64-bit integer tensor ops,
so that CPU and CUDA give the same bits. The counter is (token block, position, choice index), the key is the seed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
ROUNDS = 10
# Noise is made for this many (position, token) pairs at once: small ops cost more by count than by size.
BLOCK_SIZE = 1 << 16
# Noise this far back is still asked for: a step drafts down to its deepest level, then verifies from the root.
KEPT_POSITIONS = 32


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four streams of 32-bit words, held in int64, from four broadcastable counter words and two key words.

    Products of two 32-bit words wrap modulo 2^64 in int64, which keeps all their bits; the arithmetic shift is
    masked to the high word.
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


def gumbel(seed: int, choice: int, positions: Tensor, vocabulary_size: int) -> Tensor:
    """[P, V] float32 standard Gumbel noise for choosing the tokens at `positions` [P] int64 of text `choice`."""
    blocks = torch.arange((vocabulary_size + 3) // 4, device=positions.device)
    place = positions[:, None]
    words = philox(
        (
            blocks[None, :] + 0 * place,
            place & MASK,
            (place >> 32) + 0 * blocks,
            torch.full_like(place, choice),
        ),
        (seed & MASK, (seed >> 32) & MASK),
    )
    bits = torch.stack(words, dim=-1).flatten(1)[:, :vocabulary_size]
    # -log(-log(1 - u)) with log1p resolves the upper tail, where the winners are, to one part in 2^32.
    uniform = (bits.double() + 0.5) * 2.0**-32
    return (-torch.log(-torch.log1p(-uniform))).float()


class KeyedNoise:
    """Gumbel noise of one text, made in blocks of positions and kept for the few blocks in use."""

    def __init__(self, seed: int, choice: int, vocabulary_size: int, device: torch.device):
        self.seed = seed
        self.choice = choice
        self.vocabulary_size = vocabulary_size
        self.device = device
        self.block_length = max(1, BLOCK_SIZE // vocabulary_size)
        self._blocks: dict[int, Tensor] = {}  # block number -> [block_length, V]

    def at(self, position: int) -> Tensor:
        """[V] noise for choosing the token at `position` (the index the token will have in its text)."""
        number, offset = divmod(position, self.block_length)
        if number not in self._blocks:
            oldest = number - 1 - KEPT_POSITIONS // self.block_length
            self._blocks = {old: rows for old, rows in self._blocks.items() if old >= oldest}
            first = number * self.block_length
            places = torch.arange(first, first + self.block_length, device=self.device)
            self._blocks[number] = gumbel(self.seed, self.choice, places, self.vocabulary_size)
        return self._blocks[number][offset]

    def rows(self, positions: Sequence[int]) -> Tensor:
        """[P, V] noise for several positions of this text."""
        return torch.stack([self.at(position) for position in positions])
