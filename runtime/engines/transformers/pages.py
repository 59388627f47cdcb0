"""Attention over a paged cache: the packed rows of many texts, each behind its own committed text.

A text's cache column c is row `c % PAGE` of page `table[c // PAGE]`. The committed rows come first, then the tree rows.
On CUDA a kernel does it (see `tree_kernel`); here is the same in plain operations, for tests and other devices.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .scores import attention_weights

log = logging.getLogger(__name__)

PAGE = 64  # cache rows
KERNEL_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LEAST_CAPABILITY = (8, 0)  # of an NVIDIA device with bfloat16


class PackedRows(NamedTuple):
    """What M packed rows attend to, as tensors on their device."""

    tables: Tensor  # [S, P] int32: pages of each slot
    slots: Tensor  # [M] int64: of each row
    lengths: Tensor  # [M] int64: committed rows of its slot
    positions: Tensor  # [M] int64: in its text
    num_seen: Tensor  # [1] int64: m, tree rows of a slot, those of this forward included
    seen: Tensor  # uint8, of which the first M * m are [M, m]: a bit of each says whether a row sees a tree row
    blocks: Tensor  # [2, N] int64: first row and number of rows (0: none) of each block; a block is of one slot
    block_rows: int  # the most rows of a block


def dense_attention(
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
    """[M, H, D] for queries [H, M, D] over a layer's storage [pages * PAGE, G, D]; sums are float32 at least.

    With a `window`, a row sees a committed row less than so many positions before it. `bit`: of `rows.seen`, that of
    the layer. softcap, sinks: see `scored_attention`. A row that sees nothing gets 0.
    """
    num_heads, num_rows, size = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    pages = rows.tables.index_select(0, rows.slots).long()
    at = (pages[..., None] * PAGE + torch.arange(PAGE, device=query.device)).flatten(1)  # [M, C]
    column = torch.arange(at.shape[1], device=query.device)
    in_tree = column - rows.lengths[:, None]
    is_tree = (in_tree >= 0) & (in_tree < rows.num_seen)
    in_seen = torch.arange(num_rows, device=query.device)[:, None] * rows.num_seen + in_tree
    visible = (rows.seen[in_seen.clamp(0, rows.seen.shape[0] - 1)] & bit > 0) & is_tree
    visible |= (in_tree < 0) & (rows.positions[:, None] - column < (window or rows.tables.shape[1] * PAGE + num_rows))
    queries = query.to(wide).view(keys.shape[1], -1, num_rows, size)  # heads of a group are adjacent
    scores = torch.einsum("ghmd,mcgd->ghmc", queries, keys[at].to(wide)) * scale
    of_heads = None if sinks is None else sinks.view(*scores.shape[:2], 1, 1)
    probs = attention_weights(scores, visible, softcap, of_heads).nan_to_num()
    # What a row does not see may be left over from another text, and no number: zero times it is none, too.
    seen_values = values[at].to(wide).masked_fill(~visible[..., None, None], 0.0)
    attended = torch.einsum("ghmc,mcgd->mghd", probs, seen_values)
    return attended.reshape(num_rows, num_heads, size).to(query.dtype)


def store_rows(keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor, at: Tensor) -> None:
    """Write keys and values [G, M, D] to rows `at` [M] of a layer's storage."""
    keys[at] = new_keys.transpose(0, 1)
    values[at] = new_values.transpose(0, 1)


class Kernels(NamedTuple):
    attend: Callable[..., Tensor]
    store: Callable[..., None]
    are_fused: bool


def kernels(dtype: torch.dtype, device: torch.device) -> Kernels:
    """What attends and stores on a device: Triton's kernels where they can run, else plain operations."""
    if device.type != "cuda" or dtype not in KERNEL_DTYPES:
        return Kernels(dense_attention, store_rows, are_fused=False)
    try:
        from .tree_kernel import kernel_attention, kernel_store  # Triton comes with torch for CUDA on Linux alone
    except ImportError:
        log.warning("Triton is not installed: attention runs on plain operations, which is slower")
        return Kernels(dense_attention, store_rows, are_fused=False)
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        log.warning("%s is too old for Triton's kernels: attention is slower", torch.cuda.get_device_name(device))
        return Kernels(dense_attention, store_rows, are_fused=False)
    return Kernels(kernel_attention, kernel_store, are_fused=True)
