"""The product's random numbers: keyed Gumbel noise, a pure function of a token's position.

The generator's counter is (token block, position, choice index), its key is the seed. The text's own tokens are chosen
by noise keyed to their positions. A decode step's other draws take theirs from a part of the counter that is keyed to
the step's root, so that they share none with the text or with another step.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..controller.trees.tree import Array
from .machine.transfer import to_device
from .philox import MASK, gumbel_of, gumbel_rows, philox

# The host makes noise for this many (position, token) pairs at once: small ops cost more by count than by size.
BLOCK_SIZE = 1 << 16
# Noise this far back is still asked for: a step drafts down to its deepest level, then verifies from the root.
KEPT_POSITIONS = 32
# The block word of a step's own draws: the mark, then which draw it is, then the token block.
STEP_MARK = 1 << 31
NUMBER_SHIFT = 20
NUM_DRAWS = 2048  # of one step: the lower half belongs to verification, the upper to drafting
FIRST_DRAFTING_NUMBER = 1024


def noise_key(seed: int, choice: int, position: int, first_word: int = 0) -> Array:
    """[4] int64: a row of keys, see `gumbel_rows`."""
    return np.array((seed, choice, position, first_word), dtype=np.uint64).view(np.int64)


def at_positions(keys: Tensor, positions: Tensor) -> Tensor:
    """[B, P, 4]: the `keys` [B, 4] with other positions [B, P]."""
    spread = keys[:, None].repeat(1, positions.shape[1], 1)
    spread[..., 2] = positions
    return spread


def gumbel(seed: int, choice: int, positions: Tensor, vocabulary_size: int) -> Tensor:
    """[P, V] float32 standard Gumbel noise for choosing the tokens at `positions` [P] int64 of text `choice`."""
    key = to_device(noise_key(seed, choice, 0)[None], positions.device)
    return gumbel_rows(at_positions(key, positions[None])[0], vocabulary_size)


class StepNoise:
    """Fresh noise of one decode step: independent of the noise of the text's positions and of every other step.

    Numbers below `FIRST_DRAFTING_NUMBER` belong to verification, the rest to drafting. Keyed to a text position, a
    draft or a coin would come back when a later step drafts that position again, though its fate is known by then.
    """

    def __init__(self, seed: int, choice: int, root_position: int, device: torch.device):
        self.device = device
        self._seed, self._choice, self._root_position = seed, choice, root_position

    def uniform(self, number: int) -> float:
        """A uniform number strictly between 0 and 1, on a grid of 2^52."""
        position = (self._root_position & MASK, self._root_position >> 32)
        counter = (_step_word(number), *position, self._choice)
        high, low = philox(counter, (self._seed & MASK, (self._seed >> 32) & MASK))[:2]
        return ((high << 20 | low >> 12) + 0.5) * 2.0**-52

    def key(self, number: int) -> Array:
        """[4] of the Gumbel noise of a draw."""
        return noise_key(self._seed, self._choice, self._root_position, _step_word(number))


def step_gumbel(noises: Sequence[StepNoise], numbers: Sequence[int], vocabulary_size: int) -> Tensor:
    """[n, V] float32 standard Gumbel noise of many steps, or of many numbers of one, in one go."""
    keys = np.stack([noise.key(number) for noise, number in zip(noises, numbers, strict=True)])
    return gumbel_rows(to_device(keys, noises[0].device), vocabulary_size)


def _step_word(number: int) -> int:
    assert 0 <= number < NUM_DRAWS, "a step has run out of numbered draws"
    return STEP_MARK | number << NUMBER_SHIFT


class KeyedNoise:
    """Gumbel noise of one text on the host, made in blocks of positions and kept for the few blocks in use."""

    def __init__(self, seed: int, choice: int, vocabulary_size: int):
        self.seed = seed
        self.choice = choice
        self.vocabulary_size = vocabulary_size
        self.block_length = max(1, BLOCK_SIZE // vocabulary_size)
        self._blocks: dict[int, Tensor] = {}  # block number -> [block_length, V]

    def at(self, position: int) -> Tensor:
        """[V] noise for choosing the token at `position` (the index the token will have in its text)."""
        number, offset = divmod(position, self.block_length)
        if number not in self._blocks:
            oldest = number - 1 - KEPT_POSITIONS // self.block_length
            self._blocks = {old: rows for old, rows in self._blocks.items() if old >= oldest}
            first = number * self.block_length
            places = torch.arange(first, first + self.block_length)
            self._blocks[number] = gumbel(self.seed, self.choice, places, self.vocabulary_size)
        return self._blocks[number][offset]

    def rows(self, positions: Sequence[int]) -> Tensor:
        """[P, V] noise for several positions of this text."""
        return torch.stack([self.at(position) for position in positions])

    def rows_of(self, positions: Sequence[int], tokens: Array) -> Tensor:
        """The same for `tokens` [n] alone, 0 elsewhere."""
        keys = np.stack([noise_key(self.seed, self.choice, position) for position in positions])
        rows = torch.zeros((len(positions), self.vocabulary_size))
        rows.numpy()[:, tokens] = gumbel_of(keys, tokens)
        return rows
