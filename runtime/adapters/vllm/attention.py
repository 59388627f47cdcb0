"""vLLM's attention on the CPU, with the rows of draft trees attending to their ancestors alone.

vLLM's kernel computes every row, as it would without trees. The rows of trees are then computed once more: their keys
and values are read back from the paged cache, whose order within a block depends on the processor's instructions; a
probe with marked keys and values finds it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from vllm import _custom_ops as ops
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl, CPUAttentionMetadata

DIGIT = 128  # every number below it is exact in all number formats of a cache

_masks: Mapping[int, Tensor] = {}


@contextmanager
def attending(masks: Mapping[int, Tensor]) -> Iterator[None]:
    """Within, the last rows of a request, by its row of the batch, attend by its mask [n, n] bool among each other."""
    global _masks
    before, _masks = _masks, masks
    try:
        yield
    finally:
        _masks = before


class CacheOrder(NamedTuple):
    """Where a token's numbers lie in a block of one head, [block_size, head_size] each."""

    keys: Tensor
    values: Tensor

    def read(self, kv_cache: Tensor, blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """[heads, length, head_size] keys and values of the first tokens in `blocks` of a cache [N, heads, ...]."""
        block_size, head_size = self.keys.shape
        of_blocks = kv_cache[blocks].flatten(2)  # [n, heads, numbers]
        shape = (*of_blocks.shape[:2], block_size, head_size)
        keys, values = (
            of_blocks.index_select(2, order.flatten()).view(shape).transpose(0, 1).flatten(1, 2)[:, :length]
            for order in self
        )
        return keys, values

    def move(self, kv_cache: Tensor, sources: Tensor, targets: Tensor) -> None:
        """Copy the tokens in slots `sources` [n] to the slots `targets` [n]."""
        block_size = len(self.keys)
        flat = kv_cache.flatten(2)
        assert flat.data_ptr() == kv_cache.data_ptr(), "a copy of the cache was written to"
        (from_block, from_place), (to_block, to_place) = (
            (slots // block_size, slots % block_size) for slots in (sources, targets)
        )
        for order in self:
            numbers = flat[from_block[:, None], :, order[from_place]]
            flat[to_block[:, None], :, order[to_place]] = numbers


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

    def order(*, as_keys: bool) -> Tensor:
        found = torch.zeros_like(numbers)
        places = torch.zeros(0, dtype=torch.long)
        scale = 1
        while scale < len(numbers):
            digits = written(numbers // scale % DIGIT, as_keys=as_keys)
            places = digits.nonzero()[:, 0]
            found += (digits[places] - 1) * scale
            scale *= DIGIT
        assert torch.equal(found.sort().values, numbers), "the cache does not hold each number once"
        return places[found.argsort()].view(block_size, head_size)

    return CacheOrder(order(as_keys=True), order(as_keys=False))


def order_of(layer: torch.nn.Module, kv_cache: Tensor) -> CacheOrder:
    """The order of a layer's cache."""
    return cache_order(str(layer.isa), kv_cache.dtype, kv_cache.shape[2], kv_cache.shape[3] // 2)


class TreeAttentionImpl(CPUAttentionBackendImpl):
    def forward(
        self,
        layer: torch.nn.Module,
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
        if attn_metadata is None or not _masks:
            return done
        order = order_of(layer, kv_cache)
        rows = output.view(output.shape[0], -1, self.head_size)
        for row, mask in _masks.items():
            stop, length = int(attn_metadata.query_start_loc[row + 1]), int(attn_metadata.seq_lens[row])
            start, num_blocks = stop - len(mask), -(-length // kv_cache.shape[2])
            keys, values = order.read(kv_cache, attn_metadata.block_table[row, :num_blocks].long(), length)
            sees = torch.ones((len(mask), length), dtype=torch.bool)
            sees[:, length - len(mask) :] = mask
            attended = F.scaled_dot_product_attention(
                query[start:stop].transpose(0, 1)[None],
                keys[None],
                values[None],
                attn_mask=sees,
                scale=self.scale,
                enable_gqa=True,
            )
            rows[start:stop] = attended[0].transpose(0, 1)
        return done


class TreeAttentionBackend(CPUAttentionBackend):
    @staticmethod
    def get_impl_cls() -> type[TreeAttentionImpl]:
        return TreeAttentionImpl
