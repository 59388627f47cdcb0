"""The product's random number generator: keyed Gumbel noise, a pure function of a token's position.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in 64-bit integer tensor ops,
so that CPU and CUDA give the same bits. The counter is (token block, position, choice index), the key is the seed.
The text's own tokens are chosen by noise keyed to their positions. A decode step's other draws take theirs from a part
of the counter that is keyed to the step's root, so that they share none with the text or with another step.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
ROUNDS = 10
# Noise is made for this many (position, token) pairs at once: small ops cost more by count than by size, and most of
# all on a device, which works through so many in the time of one.
BLOCK_SIZE, DEVICE_BLOCK_SIZE = 1 << 16, 1 << 21
# Noise this far back is still asked for: a step drafts down to its deepest level, then verifies from the root.
KEPT_POSITIONS = 32
# The block word of a step's own draws: the mark, then which draw it is, then the token block.
STEP_MARK = 1 << 31
NUMBER_SHIFT = 20
NUM_DRAWS = 2048  # of one step: the lower half belongs to verification, the upper to drafting
FIRST_DRAFTING_NUMBER = 1024

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


def gumbel(seed: int, choice: int, positions: Tensor, vocabulary_size: int) -> Tensor:
    """[P, V] float32 standard Gumbel noise for choosing the tokens at `positions` [P] int64 of text `choice`."""
    blocks = torch.arange((vocabulary_size + 3) // 4, device=positions.device)
    place = positions[:, None]
    words = philox(
        (blocks[None, :] + 0 * place, place & MASK, (place >> 32) + 0 * blocks, torch.full_like(place, choice)),
        (seed & MASK, (seed >> 32) & MASK),
    )
    return _standard_gumbel(torch.stack(words, dim=-1).flatten(1)[:, :vocabulary_size])


def _standard_gumbel(bits: Tensor) -> Tensor:
    """float32 of the shape of `bits`: -log(-log(1 - u)) resolves, with log1p, the upper tail, where the winners are,
    to one part in 2^32."""
    uniform = (bits.double() + 0.5) * 2.0**-32
    return (-torch.log(-torch.log1p(-uniform))).float()


class StepNoise:
    """Fresh noise of one decode step: independent of the noise of the text's positions and of every other step.

    Numbers below `FIRST_DRAFTING_NUMBER` belong to verification, the rest to drafting. Keyed to a text position, a
    draft or a coin would come back when a later step drafts that position again, though its fate is known by then.
    """

    def __init__(self, seed: int, choice: int, root_position: int, device: torch.device):
        self._key = (seed & MASK, (seed >> 32) & MASK)
        self._step = (root_position & MASK, root_position >> 32, choice)
        self._device = device

    def uniform(self, number: int) -> float:
        """A uniform number strictly between 0 and 1, on a grid of 2^52."""
        high, low = philox((_step_word(number), *self._step), self._key)[:2]
        return ((high << 20 | low >> 12) + 0.5) * 2.0**-52


def step_gumbel(noises: Sequence[StepNoise], numbers: Sequence[int], vocabulary_size: int) -> Tensor:
    """[n, V] float32 standard Gumbel noise of many steps, or of many numbers of one, in one go."""
    device = noises[0]._device
    rows = [(_step_word(number), *noise._step, *noise._key) for noise, number in zip(noises, numbers, strict=True)]
    first, low, high, choice, key0, key1 = torch.tensor(rows, device=device).T[:, :, None]
    blocks = torch.arange((vocabulary_size + 3) // 4, device=device)
    words = philox((first + blocks, low, high, choice), (key0, key1))
    return _standard_gumbel(torch.stack(words, dim=-1).flatten(1)[:, :vocabulary_size])


def _step_word(number: int) -> int:
    assert 0 <= number < NUM_DRAWS, "a step has run out of numbered draws"
    return STEP_MARK | number << NUMBER_SHIFT


class KeyedNoise:
    """Gumbel noise of one text, made in blocks of positions and kept for the few blocks in use."""

    def __init__(self, seed: int, choice: int, vocabulary_size: int, device: torch.device):
        self.seed = seed
        self.choice = choice
        self.vocabulary_size = vocabulary_size
        self.device = device
        block_size = BLOCK_SIZE if device.type == "cpu" else DEVICE_BLOCK_SIZE
        self.block_length = max(1, block_size // vocabulary_size)
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
