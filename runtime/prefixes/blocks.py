"""Which blocks of a bounded memory hold which beginnings of texts; the least recently used ones make room.

A block stands for `BLOCK` tokens behind those of the block that it continues. Texts of one scope that begin alike have
the same first blocks; texts of different scopes have none in common.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ...controller.trees.tree import Array

BLOCK = 16  # tokens

Key = tuple[str | int, bytes]
"""What a block continues, a scope or the block of that number, and its tokens"""


class BlockIndex:
    """Numbers of blocks, 0 to `num_blocks` - 1."""

    def __init__(self, num_blocks: int):
        self._num_blocks = num_blocks
        # Least recently used first. A block comes before the one that it continues, and so leaves before it.
        self._numbers: OrderedDict[Key, int] = OrderedDict()

    def __len__(self) -> int:
        """Blocks in use."""
        return len(self._numbers)

    def find(self, scope: str, text: Array) -> list[int]:
        """The blocks of the longest beginning of a text [n] int64 that is known; they count as used now."""
        keys: list[Key] = []
        numbers: list[int] = []
        for tokens in _blocks_of(text):
            key = (numbers[-1] if numbers else scope, tokens)
            if key not in self._numbers:
                break
            keys.append(key)
            numbers.append(self._numbers[key])
        for key in reversed(keys):
            self._numbers.move_to_end(key)
        return numbers

    def add(self, scope: str, text: Array) -> tuple[list[int], int]:
        """All whole blocks of a text, as far as there is memory, and how many of them were known before: the others
        come behind, and may have stood for something else."""
        numbers = self.find(scope, text)
        num_known = len(numbers)
        for number, tokens in enumerate(_blocks_of(text)):
            if num_known <= number < self._num_blocks:
                is_full = len(self._numbers) == self._num_blocks
                block = self._numbers.popitem(last=False)[1] if is_full else len(self._numbers)
                self._numbers[numbers[-1] if numbers else scope, tokens] = block
                numbers.append(block)
        self.find(scope, text)  # the last block first
        return numbers, num_known


def _blocks_of(text: Array) -> Iterator[bytes]:
    for start in range(0, len(text) - BLOCK + 1, BLOCK):
        yield text[start : start + BLOCK].tobytes()
