"""An opt-in repair of vLLM's own speculative sampling on the CPU, which above T = 0 draws from a wrong distribution.

The kernel that spreads each request's temperature, top-k and top-p over its drafts writes to a copy unless they are
int64 (vllm-project/vllm#55005), so drafts are tested at whatever lay in memory; and with top-k a step without drafts,
such as the first, ends the engine. Trees do not use that sampler.
"""

import torch
from torch import Tensor
from vllm.v1.sample import rejection_sampler
from vllm.v1.sample.metadata import SamplingMetadata

_constrained = rejection_sampler.apply_sampling_constraints


def repair_sampling() -> None:
    """Put right ones in their places, in this process."""
    rejection_sampler.expand_batch_to_tokens = expanded
    rejection_sampler.apply_sampling_constraints = constrained


def expanded(x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0) -> Tensor:
    """[num_tokens]: each of `x` [B] as often as its request has tokens, `replace_from` as `replace_to`."""
    counts = torch.diff(cu_num_tokens.long(), prepend=torch.zeros(1, dtype=torch.long))
    return torch.where(x == replace_from, torch.full_like(x, replace_to), x).repeat_interleave(counts)


def constrained(logits: Tensor, cu_num_draft_tokens: Tensor, sampling_metadata: SamplingMetadata) -> Tensor:
    """[n, V] of the drafts' rows, where there are any."""
    return _constrained(logits, cu_num_draft_tokens, sampling_metadata) if len(logits) else logits
