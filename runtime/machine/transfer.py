"""Between numpy on the host and torch on a model's device.

On CUDA the way there waits for nothing: the array is put into pinned memory, which torch's allocator does not give away
before the copy is done. The way back waits for the device, so a step takes it once for all that it needs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...controller.trees.tree import Array


def to_device(array: Array, device: torch.device) -> Tensor:
    """The same numbers there; on the CPU a view of the array where it can be one."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def send(array: Array, into: Tensor) -> None:
    """The same numbers into a tensor of that shape."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    into.copy_(tensor.pin_memory() if into.is_cuda else tensor, non_blocking=True)


def sent_together(*arrays: Array | None, device: torch.device) -> tuple[Tensor | None, ...]:
    """Arrays [B, ...] of whole numbers there, in one copy; nothing is sent where all are None."""
    given = [array for array in arrays if array is not None]
    if not given:
        return (None,) * len(arrays)
    sent = to_device(np.concatenate([array.reshape(len(array), -1) for array in given], axis=1), device)
    parts = iter(sent.split([array[0].size for array in given], dim=1))
    return tuple(None if array is None else next(parts).reshape(array.shape) for array in arrays)


def to_host(*tensors: Tensor) -> tuple[Array, ...]:
    """All of them, after one wait; floating point comes as float32, the rest as it is."""
    narrow = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
    if all(tensor.device.type == "cpu" for tensor in narrow):
        return tuple(tensor.numpy() for tensor in narrow)
    return unpacked(packed(narrow).cpu(), narrow)


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """Their bytes, one after another."""
    return torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in tensors])


def unpacked(host_bytes: Tensor, tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    """Arrays like `tensors` from their `packed` bytes."""
    parts = host_bytes.split([tensor.numel() * tensor.element_size() for tensor in tensors])
    # A part begins anywhere; a copy begins where numbers may.
    return tuple(
        part.clone().view(tensor.dtype).view(tensor.shape).numpy() for part, tensor in zip(parts, tensors, strict=True)
    )


class Uploads:
    """Bytes for one tensor on a device, again and again, through pinned memory that is made once."""

    def __init__(self, most_bytes: int, device: torch.device):
        self._there = torch.zeros(most_bytes, dtype=torch.uint8, device=device)
        # Two in turn, for a copy may still be under way when the next is written.
        pinned = device.type == "cuda"
        self._buffers = [torch.zeros(most_bytes, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self._copied = [torch.cuda.Event() if pinned else None for _ in range(2)]

    def begin(self, count: int) -> Array:
        """[count] uint8, to be written and then sent."""
        self._buffers.reverse()
        self._copied.reverse()
        if self._copied[0] is not None:
            self._copied[0].synchronize()  # a copy of two uploads ago: it has long been done
        return self._buffers[0].numpy()[:count]

    def send(self, count: int) -> Tensor:
        """The tensor on the device, whose first `count` bytes are those that were written."""
        self._there[:count].copy_(self._buffers[0][:count], non_blocking=True)
        if self._copied[0] is not None:
            self._copied[0].record()
        return self._there
