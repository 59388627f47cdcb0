"""`pages` as CUDA kernels (Triton): attention to committed texts and to the trees behind them.

The rows of a tree that share a key head are one block of queries, so that a page is read once for all of them. The
pages of a slot are dealt out to several programs, each of which attends to its own (split keys, as in Flash-Decoding,
Dao et al. 2023); a second kernel merges their outputs by the logarithms of their softmax denominators (Milakov &
Gimelshein 2018, arXiv:1805.02867). Lengths, page tables and masks are read on the device, so a captured graph holds
for any text.
"""

from typing import Any

import torch

# Triton comes with the builds of torch for CUDA alone.
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from .pages import PAGE, PackedRows

# Programs per processor of the device: more splits would cost more to merge than reading side by side saves.
PROGRAMS_PER_PROCESSOR = 2
MOST_SPLITS = 32


@triton.jit
def _scores(queries, key, scale, softcap, HAS_CAP: tl.constexpr):
    """In powers of two."""
    scores = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
    if HAS_CAP:
        scores = softcap * (1.0 - 2.0 / (tl.exp2(scores / softcap * 2.8853900817779268) + 1.0))  # tanh
    return scores * 1.4426950408889634


@triton.jit
def _attend_page(scores, value, best, total, attended):
    """One page more in the running softmax, in powers of two."""
    better = tl.maximum(best, tl.max(scores, axis=1))
    shift = tl.where(better == float("-inf"), 0.0, better)
    weights = tl.exp2(scores - shift[:, None])
    fading = tl.exp2(best - shift)
    total = total * fading + tl.sum(weights, axis=1)
    attended = attended * fading[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return better, total, attended


@triton.jit
def _attend(
    query, keys, values, tables, slots, lengths, positions, seen, num_seen, blocks, sinks, output, parts, sums,
    scale, softcap, num_blocks, num_pages, head_stride, row_stride,
    GROUPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, QUERIES: tl.constexpr,
    PAGE: tl.constexpr, SPLITS: tl.constexpr, WINDOW: tl.constexpr, BIT: tl.constexpr, HAS_CAP: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):  # fmt: skip
    """One split of the pages for one block of rows and one key head, with which `HEADS` heads of the queries go."""
    split, block, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first_row, count = tl.load(blocks + block).to(tl.int32), tl.load(blocks + num_blocks + block).to(tl.int32)
    if count == 0:
        return
    index = tl.arange(0, QUERIES)
    is_row = index // HEADS < count
    row = first_row + index // HEADS
    head = group * HEADS + index % HEADS
    sizes, columns = tl.arange(0, SIZE_BLOCK), tl.arange(0, PAGE)
    is_size = (sizes < SIZE)[None, :]
    is_query = is_row[:, None] & is_size
    at_query = head[:, None] * head_stride + row[:, None] * row_stride + sizes[None, :]
    queries = tl.load(query + at_query, mask=is_query, other=0.0)
    slot, length = tl.load(slots + first_row), tl.load(lengths + first_row).to(tl.int32)
    num_tree = tl.load(num_seen).to(tl.int32)
    row_seen = seen + row.to(tl.int64) * num_tree
    first_seen = tl.zeros([QUERIES], tl.int32)
    first_page = 0
    if WINDOW > 0:
        first_seen = tl.load(positions + row, mask=is_row, other=0).to(tl.int32) - WINDOW + 1
        first_page = tl.maximum(length - WINDOW + 1, 0) // PAGE
    last_page = tl.cdiv(length + num_tree, PAGE)
    share = tl.cdiv(last_page - first_page, SPLITS)
    begin = first_page + split * share
    end = tl.minimum(begin + share, last_page)
    best = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    attended = tl.zeros([QUERIES, SIZE_BLOCK], tl.float32)
    # Pages of committed rows alone come first, and every row sees all of them.
    whole = begin if WINDOW > 0 else tl.minimum(tl.maximum(length // PAGE, begin), end)
    for page in range(begin, whole):
        stored = tl.load(tables + slot * num_pages + page).to(tl.int64) * PAGE + columns
        at_key = (stored[:, None] * GROUPS + group) * SIZE + sizes[None, :]
        key = tl.load(keys + at_key, mask=is_size, other=0.0)
        value = tl.load(values + at_key, mask=is_size, other=0.0)
        scores = _scores(queries, key, scale, softcap, HAS_CAP)
        best, total, attended = _attend_page(scores, value, best, total, attended)
    for page in range(whole, end):
        stored = tl.load(tables + slot * num_pages + page).to(tl.int64) * PAGE + columns
        at_key = (stored[:, None] * GROUPS + group) * SIZE + sizes[None, :]
        key = tl.load(keys + at_key, mask=is_size, other=0.0)
        column = page * PAGE + columns
        in_tree = column - length
        is_tree = (in_tree >= 0) & (in_tree < num_tree)
        sees = tl.load(row_seen[:, None] + in_tree[None, :], mask=is_row[:, None] & is_tree[None, :], other=0)
        # What nobody sees may be left over from another text, and no number: zero times it is none, too.
        is_seen = (in_tree < 0) | (tl.max(sees & BIT, axis=0) != 0)
        value = tl.load(values + at_key, mask=is_size & is_seen[:, None], other=0.0)
        visible = (in_tree < 0)[None, :] & (column[None, :] >= first_seen[:, None]) | ((sees & BIT) != 0)
        scores = _scores(queries, key, scale, softcap, HAS_CAP)
        scores = tl.where(visible, scores, float("-inf"))
        best, total, attended = _attend_page(scores, value, best, total, attended)
    at_output = row.to(tl.int64) * (GROUPS * HEADS) + head
    if SPLITS == 1:
        if HAS_SINKS:
            total += tl.exp2(tl.load(sinks + head).to(tl.float32) * 1.4426950408889634 - best)
        attended = attended / tl.where(total == 0.0, 1.0, total)[:, None]
        at = at_output[:, None] * SIZE + sizes[None, :]
        tl.store(output + at, attended.to(output.dtype.element_ty), mask=is_query)
    else:
        attended = attended / tl.where(total == 0.0, 1.0, total)[:, None]
        at_part = at_output * SPLITS + split
        tl.store(parts + at_part[:, None] * SIZE + sizes[None, :], attended, mask=is_query)
        tl.store(sums + at_part, best + tl.log2(total), mask=is_row)


@triton.jit
def _merge(
    parts, sums, sinks, output,
    HEADS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, SPLITS: tl.constexpr, HAS_SINKS: tl.constexpr,
):  # fmt: skip
    """One head of one row."""
    query = tl.program_id(0).to(tl.int64)
    sizes, splits = tl.arange(0, SIZE_BLOCK), tl.arange(0, SPLITS)
    of_splits = tl.load(sums + query * SPLITS + splits)
    best = tl.max(of_splits, axis=0)
    best = tl.where(best == float("-inf"), 0.0, best)
    weights = tl.exp2(of_splits - best)
    total = tl.sum(weights, axis=0)
    if HAS_SINKS:
        total += tl.exp2(tl.load(sinks + query % HEADS).to(tl.float32) * 1.4426950408889634 - best)
    at = (query * SPLITS + splits[:, None]) * SIZE + sizes[None, :]
    attended = tl.load(parts + at, mask=(sizes < SIZE)[None, :] & (weights > 0.0)[:, None], other=0.0)
    merged = tl.sum(attended * weights[:, None], axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(output + query * SIZE + sizes, merged.to(output.dtype.element_ty), mask=sizes < SIZE)


@triton.jit
def _store(
    keys, values, new_keys, new_values, at, key_head, key_row, value_head, value_row,
    SIZE: tl.constexpr, WIDTH: tl.constexpr, WIDTH_BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys and values of one row."""
    row = tl.program_id(0)
    entries = tl.arange(0, WIDTH_BLOCK)
    head, size = entries // SIZE, entries % SIZE
    inside = entries < WIDTH
    into = tl.load(at + row).to(tl.int64) * WIDTH + entries
    tl.store(keys + into, tl.load(new_keys + head * key_head + row * key_row + size, mask=inside), mask=inside)
    tl.store(values + into, tl.load(new_values + head * value_head + row * value_row + size, mask=inside), mask=inside)


def kernel_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: PackedRows,
    *,
    scale: float,
    window: int | None = None,
    bit: int = 1,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `pages.dense_attention`, for bfloat16, float16 and float32. Rows outside all blocks get any numbers."""
    num_heads, num_rows, size = query.shape
    num_groups, num_blocks = keys.shape[1], rows.blocks.shape[1]
    heads = num_heads // num_groups
    if query.stride(-1) != 1:
        query = query.contiguous()
    splits = num_splits(num_blocks * num_groups, rows.tables.shape[1], query.device)
    output = query.new_empty((num_rows, num_heads, size))
    parts = torch.empty((num_rows, num_heads, splits, size) if splits > 1 else 1, device=query.device)
    sums = torch.empty((num_rows, num_heads, splits) if splits > 1 else 1, device=query.device)
    sizes = {"SIZE": size, "SIZE_BLOCK": max(16, triton.next_power_of_2(size)), "SPLITS": splits}
    of_sinks = output if sinks is None else sinks
    attend: Any = _attend
    merge: Any = _merge
    with torch.cuda.device_of(query):  # Triton launches on the current device
        attend[splits, num_blocks, num_groups](
            query, keys, values, rows.tables, rows.slots, rows.lengths, rows.positions, rows.seen, rows.num_seen,
            rows.blocks, of_sinks, output, parts, sums,
            scale, softcap or 0.0, num_blocks, rows.tables.shape[1], query.stride(0), query.stride(1),
            GROUPS=num_groups, HEADS=heads, QUERIES=max(16, triton.next_power_of_2(rows.block_rows * heads)), PAGE=PAGE,
            WINDOW=window or 0, BIT=bit, HAS_CAP=softcap is not None, HAS_SINKS=sinks is not None, **sizes,
            num_warps=4, num_stages=3 if query.element_size() == 2 else 1,
        )  # fmt: skip
        if splits > 1:
            merge[num_rows * num_heads,](
                parts, sums, of_sinks, output, HEADS=num_heads, HAS_SINKS=sinks is not None, **sizes, num_warps=4
            )
    return output


def num_splits(num_programs: int, num_pages: int, device: torch.device) -> int:
    """Into how many splits the pages of a slot are dealt, a power of two: enough to occupy the device."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
    wanted = min(PROGRAMS_PER_PROCESSOR * processors // max(1, num_programs), MOST_SPLITS, num_pages)
    return 1 << max(0, wanted.bit_length() - 1)


def kernel_store(keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor, at: Tensor) -> None:
    """As `pages.store_rows`."""
    num_groups, num_rows, size = new_keys.shape
    if new_keys.stride(-1) != 1 or new_values.stride(-1) != 1:
        new_keys, new_values = new_keys.contiguous(), new_values.contiguous()
    width = num_groups * size
    launch: Any = _store
    with torch.cuda.device_of(keys):
        launch[num_rows,](
            keys, values, new_keys, new_values, at, *new_keys.stride()[:2], *new_values.stride()[:2],
            SIZE=size, WIDTH=width, WIDTH_BLOCK=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
