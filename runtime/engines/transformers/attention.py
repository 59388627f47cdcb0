"""Attention over tree rows: grouped-query heads behind a mask, without copying the cache for every head.

Models on a device attend in two parts: to the committed rows, which every tree row sees, and to the tree rows, behind a
mask as large as the tree. Either part gives its output and the logarithm of its softmax's denominator, by which the two
are weighted (Milakov & Gimelshein 2018, arXiv:1805.02867). So no mask spans the context, and a captured graph reads the
lengths of the slots on the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ....controller.errors import InputError
from .packing import Group
from .scores import scored_attention

TREE_ATTENTION = "treewright"  # no "sdpa" in it: transformers would refuse it where that lacks a feature of a model
NOT_IN_TWO_PARTS = (
    "attention with windows, capped scores, sinks or keys and values of different sizes is not supported on a device; "
    "run the model with pair.device=cpu"
)


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    groups: Sequence[Group] = (),
    windowed: Mapping[int, Tensor] | None = None,
    prefix_lengths: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """[B, n, H, D] for queries [B, H, n, D] over keys and values [B, G, rows, D]; transformers' own `sdpa` otherwise.

    With a mask, transformers repeats keys and values for every head of a group, a copy of the whole cache per layer.
    CPU kernels accept grouped heads; CUDA's fused ones do not, so there transformers' own function is used.

    With `groups`, queries and result are packed rows, [1, H, M, D] and [1, M, H, D], and the masks are theirs. Layers
    in `windowed` have a mask of their own.

    With `prefix_lengths` [B] int32, keys and values are the whole storage of these slots, and the mask [B, 1, n, m]
    says which of the m tree rows behind the committed ones are seen: see `merged_attention`.
    """
    if groups:
        attended = [
            packing.pack(
                tree_attention(
                    module,
                    packing.unpack(query[:, :, packed].transpose(1, 2)).transpose(1, 2),
                    key[slots],
                    value[slots],
                    masks.full,
                    windowed=masks.windowed,
                    **options,
                )[0]
            )
            for slots, packed, packing, masks in groups
        ]
        return torch.cat(attended, dim=1), None
    softcap, sinks = options.get("softcap"), options.get("s_aux")
    if prefix_lengths is not None:
        assert attention_mask is not None
        if not (softcap is sinks is options.get("sliding_window") is None and key.shape[-1] == value.shape[-1]):
            raise InputError(NOT_IN_TWO_PARTS)
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        storage = key.transpose(1, 2), value.transpose(1, 2)
        return merged_attention(query, *storage, attention_mask, prefix_lengths, scale).transpose(1, 2), None
    if windowed:
        attention_mask = windowed.get(module.layer_idx, attention_mask)
    if softcap is not None or sinks is not None:
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        attended = scored_attention(query, key, value, attention_mask, scale=scale, softcap=softcap, sinks=sinks)
        return attended, None
    if attention_mask is None or query.device.type != "cpu" or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    attended = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=options.get("dropout", 0.0),
        scale=options.get("scaling"),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2).contiguous(), None


def merged_attention(
    query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, prefix_lengths: Tensor, scale: float
) -> Tensor:
    """[B, H, n, D] for queries of that shape over keys and values [B, capacity, G, D].

    A row sees the first `prefix_lengths` [B] rows of its slot and, of the m behind them, what `seen` [B, 1, n, m] says,
    itself at least.
    """
    device = query.device
    slots = torch.arange(len(query), device=device)[:, None]
    columns = prefix_lengths[:, None] + torch.arange(seen.shape[-1], device=device)
    of_tree, tree_sums = dense_attention(query, keys[slots, columns], values[slots, columns], seen, scale)
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        of_prefix, prefix_sums = flash_prefix(query, keys, values, prefix_lengths, scale)
    else:
        is_prefix = torch.arange(keys.shape[1], device=device) < prefix_lengths[:, None]
        of_prefix, prefix_sums = dense_attention(query, keys, values, is_prefix[:, None, None], scale)
    total = torch.logaddexp(tree_sums, prefix_sums)
    merged = of_tree * (tree_sums - total).exp()[..., None] + of_prefix * (prefix_sums - total).exp()[..., None]
    return merged.to(query.dtype)


def dense_attention(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output [B, H, n, D] and log of the softmax's denominator [B, H, n], of keys and values [B, m, G, D] where `seen`,
    broadcastable to [B, H, n, m]; a row that sees nothing gets 0 and -inf. At least in float32."""
    num_texts, num_heads, num_rows, size = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    of_groups = query.to(wide).reshape(num_texts, keys.shape[2], -1, size)  # heads of a group are adjacent
    scores = of_groups @ keys.to(wide).permute(0, 2, 3, 1) * scale
    scores = scores.view(num_texts, num_heads, num_rows, -1).masked_fill(~seen, -torch.inf)
    sums = scores.logsumexp(dim=-1)
    probs = (scores - sums.clamp_min(torch.finfo(wide).min)[..., None]).exp()
    attended = probs.view(*of_groups.shape[:3], -1) @ values.to(wide).transpose(1, 2)
    return attended.view(query.shape), sums


def flash_prefix(
    query: Tensor, keys: Tensor, values: Tensor, prefix_lengths: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The same over the first `prefix_lengths` [B] int32 rows of each slot, by the flash kernel, which reads no row
    behind them."""
    num_texts, num_heads, num_rows, size = query.shape
    capacity = keys.shape[1]
    slots = torch.arange(num_texts + 1, device=query.device, dtype=torch.int32)
    attended = varlen_attn(
        query.transpose(1, 2).reshape(-1, num_heads, size),
        keys.flatten(0, 1),
        values.flatten(0, 1),
        slots * num_rows,
        slots * capacity,
        num_rows,
        capacity,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        enable_gqa=num_heads != keys.shape[2],
        seqused_k=prefix_lengths,
    )
    assert isinstance(attended, tuple)
    output, sums = attended[0].view(num_texts, num_rows, num_heads, size).transpose(1, 2), attended[1]
    sums = sums.view(num_heads, num_texts, num_rows).transpose(0, 1)
    # Kernels differ in their output for a slot without committed rows.
    is_empty = (prefix_lengths == 0)[:, None, None]
    return output.float().masked_fill(is_empty[..., None], 0.0), sums.masked_fill(is_empty, -torch.inf)


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
