"""An opt-in repair of vLLM's own speculative sampling on the CPU, which draws from a wrong distribution above T = 0.

The kernel that spreads each request's temperature, top-k and top-p over its drafts writes to a copy unless they are
int64 (vllm-project/vllm#55005), so drafts are tested at whatever lay in memory. Trees do not use that sampler.
"""

import torch
from torch import Tensor
from vllm.v1.sample import rejection_sampler


def repair_sampling() -> None:
    """Put a right one in its place, in this process."""
    rejection_sampler.expand_batch_to_tokens = expanded


def expanded(x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0) -> Tensor:
    """[num_tokens]: each of `x` [B] as often as its request has tokens, `replace_from` as `replace_to`."""
    counts = torch.diff(cu_num_tokens.long(), prepend=torch.zeros(1, dtype=torch.long))
    return torch.where(x == replace_from, torch.full_like(x, replace_to), x).repeat_interleave(counts)
