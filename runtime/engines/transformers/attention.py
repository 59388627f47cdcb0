"""Attention over tree rows: grouped-query heads behind a mask, without copying the cache for every head; or, on a
device, over the pages of a cache."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .packing import Group
from .paged_cache import PagedCache
from .scores import scored_attention

# No "sdpa" in the names: transformers would refuse them where that lacks a feature of a model.
TREE_ATTENTION, PAGED_ATTENTION = "treewright", "treewright_paged"


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    groups: Sequence[Group] = (),
    windowed: Mapping[int, Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """[B, n, H, D] for queries [B, H, n, D] over keys and values [B, G, rows, D]; transformers' own `sdpa` otherwise.

    With a mask, transformers repeats keys and values for every head of a group, a copy of the whole cache per layer.
    CPU kernels accept grouped heads; CUDA's fused ones do not, so there transformers' own function is used.

    With `groups`, queries and result are packed rows, [1, H, M, D] and [1, M, H, D], and the masks are theirs. Layers
    in `windowed` have a mask of their own.
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


@torch.compiler.disable  # a compiled layer would else be compiled anew for each shape of a forward
def paged_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    paged: PagedCache | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """[1, M, H, D] for the packed queries [1, H, M, D] of a forward over a layer's whole storage, [1, rows, G, D] for
    keys and for values; `tree_attention` where the forward is none of `paged` rows."""
    if paged is None:
        return tree_attention(module, query, key, value, attention_mask, **options)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    softcap, sinks = options.get("softcap"), options.get("s_aux")
    attended = paged.attend(module.layer_idx, query[0], key[0], value[0], scale=scale, softcap=softcap, sinks=sinks)
    return attended[None], None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
AttentionInterface.register(PAGED_ATTENTION, paged_attention)
AttentionMaskInterface.register(PAGED_ATTENTION, sdpa_mask)
