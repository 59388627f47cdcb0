"""Attention whose scores are capped, or share their weight with a sink: what fused kernels do not compute."""

import torch
from torch import Tensor


def scored_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """[B, n, H, D] for queries [B, H, n, D] over keys and values [B, G, rows, D]; at least in float32.

    A score s becomes `softcap * tanh(s / softcap)`. A head's sink, of `sinks` [H], is one more score, whose value is
    nothing. mask: added to the scores, or bool; without one, rows are the last of a text.
    """
    num_texts, num_heads, num_rows, size = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    of_groups = query.to(wide).reshape(num_texts, key.shape[1], -1, size)  # heads of a group are adjacent
    scores = (of_groups @ key.to(wide).transpose(2, 3) * scale).view(num_texts, num_heads, num_rows, -1)
    if mask is None:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril(scores.shape[3] - num_rows)
    of_heads = None if sinks is None else sinks.view(1, -1, 1, 1)
    probs = attention_weights(scores, mask, softcap, of_heads)
    attended = probs.reshape(*of_groups.shape[:3], -1) @ value.to(wide)
    return attended.view(num_texts, num_heads, num_rows, -1).transpose(1, 2).to(query.dtype).contiguous()


def attention_weights(scores: Tensor, mask: Tensor, softcap: float | None, sinks: Tensor | None) -> Tensor:
    """[..., rows] of scores of that shape; `mask` as above, `sinks` broadcastable to [..., 1]."""
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if sinks is None:
        return scores.softmax(dim=-1)
    of_sinks = sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.cat((scores, of_sinks), dim=-1).softmax(dim=-1)[..., :-1]
