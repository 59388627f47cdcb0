"""vLLM's attention on the CPU, with the rows of draft trees attending to their ancestors alone.

vLLM's kernel computes every row, as it would without trees. The rows of trees are then computed once more: their keys
and values are read back from the paged cache, whose order within a block depends on the processor's instructions; a
probe with marked keys and values finds it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from vllm import _custom_ops as ops
from vllm.v1.attention.backend import AttentionLayer
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl, CPUAttentionMetadata

DIGIT = 128  # every number below it is exact in all number formats of a cache


class TreeRows(NamedTuple):
    """The last rows of one request in a forward, the same in every layer."""

    start: int
    stop: int
    length: int  # of the text with these rows
    blocks: Tensor  # of the cache that hold it
    bias: Tensor  # [n, length] 0 where a row attends, else -inf


class Forest:
    """The trees of a forward, by row of the batch: masks [n, n] bool of the rows of a tree among each other."""

    def __init__(self, masks: Mapping[int, Tensor]):
        self._masks = masks
        self._rows: list[TreeRows] | None = None

    def rows(self, metadata: CPUAttentionMetadata, block_size: int, dtype: torch.dtype) -> list[TreeRows]:
        """Where they lie; the first layer asks for all."""
        if self._rows is None:
            self._rows = [self._of(row, mask, metadata, block_size, dtype) for row, mask in self._masks.items()]
        return self._rows

    @staticmethod
    def _of(row: int, mask: Tensor, metadata: CPUAttentionMetadata, block_size: int, dtype: torch.dtype) -> TreeRows:
        stop, length = int(metadata.query_start_loc[row + 1]), int(metadata.seq_lens[row])
        bias = torch.zeros((len(mask), length), dtype=dtype)
        bias[:, length - len(mask) :].masked_fill_(~mask, -torch.inf)
        blocks = metadata.block_table[row, : -(-length // block_size)].long()
        return TreeRows(stop - len(mask), stop, length, blocks, bias)


_forest: Forest | None = None


@contextmanager
def attending(masks: Mapping[int, Tensor]) -> Iterator[None]:
    """Within, the rows of these trees attend to their ancestors and to the text before."""
    global _forest
    before, _forest = _forest, Forest(masks) if masks else None
    try:
        yield
    finally:
        _forest = before


class Places(NamedTuple):
    """Where the numbers of the tokens of a block lie, for one head."""

    indices: Tensor  # [block_size, head_size]
    steps: tuple[int, int, int] | None  # the first, from token to token, from number to number; None where they differ

    @classmethod
    def of(cls, indices: Tensor) -> "Places":
        first, down, across = (int(indices[place]) for place in ((0, 0), (1, 0), (0, 1)))
        steps = first, down - first, across - first
        tokens, numbers = (torch.arange(size) for size in indices.shape)
        regular = torch.equal(indices, first + steps[1] * tokens[:, None] + steps[2] * numbers)
        return cls(indices, steps if regular else None)

    def read(self, of_blocks: Tensor) -> Tensor:
        """[n, heads, block_size, head_size] of blocks [n, heads, numbers]; a view where it can be."""
        if self.steps is None:
            return of_blocks[:, :, self.indices]
        first, down, across = self.steps
        shape, strides = (*of_blocks.shape[:2], *self.indices.shape), (*of_blocks.stride()[:2], down, across)
        return of_blocks.as_strided(shape, strides, of_blocks.storage_offset() + first)


class CacheOrder(NamedTuple):
    """Where a cache has keys and values."""

    keys: Places
    values: Places

    def read(self, kv_cache: Tensor, blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """[heads, length, head_size] keys and values of the first tokens in `blocks` of a cache [N, heads, ...]."""
        of_blocks = kv_cache[blocks].flatten(2)  # [n, heads, numbers]
        keys, values = (places.read(of_blocks).transpose(0, 1).flatten(1, 2)[:, :length] for places in self)
        return keys, values

    def move(self, kv_cache: Tensor, sources: Tensor, targets: Tensor) -> None:
        """Copy the tokens in slots `sources` [n] to the slots `targets` [n]."""
        block_size = kv_cache.shape[2]
        flat = kv_cache.flatten(2)
        assert flat.data_ptr() == kv_cache.data_ptr(), "a copy of the cache was written to"
        (from_block, from_place), (to_block, to_place) = (
            (slots // block_size, slots % block_size) for slots in (sources, targets)
        )
        for places in self:
            numbers = flat[from_block[:, None], :, places.indices[from_place]]
            flat[to_block[:, None], :, places.indices[to_place]] = numbers


@cache
def cache_order(isa: str, dtype: torch.dtype, block_size: int, head_size: int) -> CacheOrder:
    """The order of a cache that vLLM's kernels for `isa` write."""
    kv_cache = torch.zeros(1, 1, block_size, 2 * head_size, dtype=dtype)
    key_cache, value_cache = kv_cache.view(1, 1, 2 * block_size, head_size).chunk(2, dim=2)
    numbers = torch.arange(block_size * head_size)

    def written(digits: Tensor, *, as_keys: bool) -> Tensor:
        marked = (digits + 1).view(block_size, 1, head_size).to(dtype)
        blank = torch.zeros_like(marked)
        kv_cache.zero_()
        keys, values = (marked, blank) if as_keys else (blank, marked)
        ops.cpu_attn_reshape_and_cache(
            keys, values, key_cache, value_cache, torch.arange(block_size), isa,
            k_scale=1.0, v_scale=1.0, kv_cache_dtype="auto",
        )  # fmt: skip
        return kv_cache.flatten().long()

    def order(*, as_keys: bool) -> Places:
        found = torch.zeros_like(numbers)
        places = torch.zeros(0, dtype=torch.long)
        scale = 1
        while scale < len(numbers):
            digits = written(numbers // scale % DIGIT, as_keys=as_keys)
            places = digits.nonzero()[:, 0]
            found += (digits[places] - 1) * scale
            scale *= DIGIT
        assert torch.equal(found.sort().values, numbers), "the cache does not hold each number once"
        return Places.of(places[found.argsort()].view(block_size, head_size))

    return CacheOrder(order(as_keys=True), order(as_keys=False))


def order_of(layer: Any, kv_cache: Tensor) -> CacheOrder:
    """The order of a layer's cache."""
    return cache_order(str(layer.isa), kv_cache.dtype, kv_cache.shape[2], kv_cache.shape[3] // 2)


class TreeAttentionImpl(CPUAttentionBackendImpl):
    def forward(
        self,
        layer: AttentionLayer,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: CPUAttentionMetadata | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        done = super().forward(
            layer, query, key, value, kv_cache, attn_metadata, output, output_scale, output_block_scale
        )  # fmt: skip
        if attn_metadata is None or _forest is None:
            return done
        order = order_of(layer, kv_cache)
        rows = output.view(output.shape[0], -1, self.head_size)
        for tree in _forest.rows(attn_metadata, kv_cache.shape[2], query.dtype):
            keys, values = order.read(kv_cache, tree.blocks, tree.length)
            attended = F.scaled_dot_product_attention(
                query[tree.start : tree.stop].transpose(0, 1)[None],
                keys[None],
                values[None],
                attn_mask=tree.bias,
                scale=self.scale,
                enable_gqa=True,
            )
            rows[tree.start : tree.stop] = attended[0].transpose(0, 1)
        return done


class TreeAttentionBackend(CPUAttentionBackend):
    @staticmethod
    def get_impl_cls() -> type[TreeAttentionImpl]:
        return TreeAttentionImpl
