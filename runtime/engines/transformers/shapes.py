"""The shapes of a device's forwards: few, so that each can be captured as a graph."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

from ....controller.trees.tree import Array
from ..base import CHUNK
from .page_tables import MOST_SLOTS
from .pages import PAGE

# Packed rows, and texts, of a forward; one of more rows is not captured. A single row would be compiled by itself, and
# takes no less time than two.
ROWS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_SEEN = 1024  # tree rows of a slot
# Rows times heads of one block of the attention: a tile of a tensor core, and what registers hold.
LEAST_QUERIES, MOST_QUERIES = 16, 64
# Of the inputs of a captured forward.
MOST_BYTES = ROWS[-1] * (MOST_SEEN + 8 * 16)


class Shape(NamedTuple):
    """Of one forward, as it runs."""

    num_texts: int
    num_rows: int  # of all texts
    block_rows: int  # of the attention, see `PackedRows`

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, num_texts: int, num_rows: int, *, heads: int) -> Self:
        """The shape of the menu for so many texts and rows; `heads` of the queries read the same key head."""
        texts = menu_size(TEXTS, num_texts)
        rows = menu_size(ROWS, max(num_rows, texts))
        queries = min(max(rows // texts * heads, LEAST_QUERIES), MOST_QUERIES)
        return cls(texts, rows, max(1, 1 << (queries // heads).bit_length() - 1))

    @classmethod
    def menu(cls, num_texts: int, num_rows: int, *, heads: int) -> Iterator[Self]:
        """The shapes of up to so many texts with so many rows each, and a chunk of a prompt beside."""
        for texts in TEXTS[: TEXTS.index(menu_size(TEXTS, num_texts)) + 1]:
            most = menu_size(ROWS, min(texts * num_rows + CHUNK, ROWS[-1]))
            yield from (cls.of(texts, rows, heads=heads) for rows in ROWS if texts <= rows <= most)

    @property
    def num_blocks(self) -> int:
        return self.num_rows // self.block_rows + self.num_texts

    @property
    def sizes(self) -> list[int]:
        """Of the parts of the numbers that a forward reads: tokens, positions, storage rows, slots and lengths of the
        rows; blocks; the number of tree rows."""
        return [*[self.num_rows] * 5, 2 * self.num_blocks, 1]


class Layout(NamedTuple):
    """Which rows of a block [B, n] are packed, in the order of the texts."""

    texts: Array  # [M] int64, of each packed row
    columns: Array  # [M] int64
    counts: Array  # [B] int64, of each text
    packed: Array  # [B, n] int64, where each row is among the packed ones; padding is where any is

    @classmethod
    def of(cls, real: Array) -> Self:
        """The rows that are `real` [B, n]."""
        texts, columns = np.nonzero(real)
        packed = np.maximum(real.ravel().cumsum() - 1, 0).reshape(real.shape)
        return cls(texts, columns, real.sum(axis=1), packed)

    def numbers(
        self, shape: Shape, of_block: tuple[Array, Array], of_rows: tuple[Array, Array, Array], num_seen: int
    ) -> Array:
        """[n] int64, the parts of `Shape.sizes` one after another, from tokens and positions of the block, [B, n] each,
        and from the storage rows, slots and lengths of the packed rows."""
        numbers = padding(shape).copy()
        rows, blocks = numbers[: 5 * shape.num_rows].reshape(5, -1), numbers[5 * shape.num_rows :]
        for row, values in enumerate(of_block):
            rows[row, : len(self.texts)] = self.rows(values)
        for row, values in enumerate(of_rows, start=len(of_block)):
            rows[row, : len(self.texts)] = values
        of_attention = whole_blocks(*self.packed.shape, shape) if self.is_whole else self.blocks(shape)
        blocks[: of_attention.size], blocks[of_attention.size] = of_attention.ravel(), num_seen
        return numbers

    def rows(self, block: Array) -> Array:
        """[M, ...] of a block [B, n, ...]."""
        return block.reshape(-1, *block.shape[2:]) if self.is_whole else block[self.texts, self.columns]

    @property
    def is_whole(self) -> bool:
        return len(self.texts) == self.packed.size

    def blocks(self, shape: Shape) -> Array:
        """[2, N] int64 of the attention, see `PackedRows`."""
        blocks = np.zeros((2, shape.num_blocks), dtype=np.int64)
        numbers = -(-self.counts // shape.block_rows)
        text = np.repeat(np.arange(len(numbers)), numbers)
        before = (np.arange(len(text)) - np.repeat(numbers.cumsum() - numbers, numbers)) * shape.block_rows
        blocks[0, : len(text)] = (self.counts.cumsum() - self.counts)[text] + before
        blocks[1, : len(text)] = np.minimum(shape.block_rows, self.counts[text] - before)
        return blocks


@lru_cache(maxsize=256)
def whole_layout(num_texts: int, num_rows: int) -> Layout:
    """Of a block without padding."""
    return Layout.of(np.ones((num_texts, num_rows), dtype=bool))


@lru_cache(maxsize=256)
def whole_blocks(num_texts: int, num_rows: int, shape: Shape) -> Array:
    return whole_layout(num_texts, num_rows).blocks(shape)


@lru_cache(maxsize=256)
def padding(shape: Shape) -> Array:
    """[n] int64: the numbers of a forward of no text. Its rows belong to no block, so they attend to nothing, and are
    stored where no text is."""
    numbers = np.zeros(sum(shape.sizes), dtype=np.int64)
    of_rows = numbers[: 5 * shape.num_rows].reshape(5, -1)
    of_rows[2], of_rows[3] = np.arange(shape.num_rows) % PAGE, MOST_SLOTS
    return numbers


def menu_size(menu: Sequence[int], count: int) -> int:
    """The next size of a menu; the count itself where it is larger than all."""
    return next((size for size in menu if size >= count), count)
