"""Projections of the same rows as one: a few rows times one large matrix come closer to the memory's speed than times
several small ones."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MERGED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class Shared:
    """What the projections of one module share."""

    def __init__(self, parts: list[nn.Linear]):
        self.weight = torch.cat([part.weight for part in parts])
        self.bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        self.sizes = [part.out_features for part in parts]
        self.source: Tensor | None = None  # of the running forward
        self.outputs: tuple[Tensor, ...] = ()


class MergedLinear(nn.Module):
    """One of several projections; the first computes all of them. One that is given other rows than the first computes
    its own part. The weights keep their names, as parts of the shared one."""

    def __init__(self, part: nn.Linear, shared: Shared, index: int):
        super().__init__()
        self.index, self.is_last = index, index == len(shared.sizes) - 1
        self.shared = shared
        start = sum(shared.sizes[:index])
        rows = slice(start, start + part.out_features)
        self.weight = nn.Parameter(shared.weight[rows], requires_grad=False)
        self.bias = None if shared.bias is None else nn.Parameter(shared.bias[rows], requires_grad=False)

    def forward(self, source: Tensor) -> Tensor:
        shared = self.shared
        if self.index == 0:
            shared.outputs = linear(source, shared.weight, shared.bias).split(shared.sizes, dim=-1)
            shared.source = source
        elif shared.source is not source:
            return linear(source, self.weight, self.bias)
        output = shared.outputs[self.index]
        if self.is_last:
            shared.outputs, shared.source = (), None
        return output


def merge_projections(model: nn.Module) -> None:
    """Merge the query, key and value projections of each attention, and the two of each gated network."""
    for module in list(model.modules()):
        for names in MERGED:
            parts: list[Any] = [getattr(module, name, None) for name in names]
            if all(type(part) is nn.Linear for part in parts) and _fit(parts):
                shared = Shared(parts)
                for index, (name, part) in enumerate(zip(names, parts, strict=True)):
                    setattr(module, name, MergedLinear(part, shared, index))


def _fit(parts: list[nn.Linear]) -> bool:
    return len({(part.in_features, part.bias is None, part.weight.dtype, part.weight.device) for part in parts}) == 1
