"""A device for machines without one: it refuses the host's tensors, and counts what it is asked for.

Its numbers lie on the host. To torch it is the meta device, which has no values: nothing can be read by mistake.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from treewright.runtime.engines.base import CachedModel

DEVICE = torch.device("meta")
aten: Any = torch.ops.aten
# Their shape depends on values, which the host has to wait for.
SHAPED_BY_VALUES = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default}


class FromTheDevice(TorchDispatchMode):
    """Refuses every operation on a tensor of the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        assert devices <= {DEVICE.type}, f"{func} reads {devices}"
        return func(*args, **(kwargs or {}))


class DeviceTensor(Tensor):
    """Says that it is on the device; `host` holds its numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor):
        of_class: Any = torch.Tensor._make_wrapper_subclass
        size = {"strides": host.stride(), "storage_offset": host.storage_offset()}
        tensor = of_class(cls, host.shape, **size, dtype=host.dtype, device=DEVICE)
        tensor.host = host
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of `Device`")


class Device(TorchDispatchMode):
    """Runs the operations on `DeviceTensor`s and counts them: `counts` has waits, uploads and ops, views left out."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:  # in inference mode, operations come that are made of others
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        given = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        asked = kwargs.get("device")
        if func.overloadpacket in (aten.pin_memory, aten._pin_memory, aten.is_pinned):
            return args[0] if "pin_memory" in str(func) else True
        if not given and (asked is None or torch.device(asked).type != DEVICE.type):
            return func(*args, **kwargs)
        if given and asked is not None and torch.device(asked).type == "cpu":
            self.counts["waits"] += 1
            return args[0].host.clone()
        if tensors and not given:
            assert func.overloadpacket is aten._to_copy, f"{func} makes a tensor of the device from one of the host"
            self.counts["uploads"] += 1
            return DeviceTensor(args[0].clone())
        hosts = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.dim()]
        assert not hosts, f"{func} reads a tensor of the host"
        self._count(func, args)
        if asked is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        result = func(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
        of_host = {id(tensor.host): tensor for tensor in given}  # an operation in place returns what it was given
        return tree_map(
            lambda leaf: of_host.get(id(leaf), DeviceTensor(leaf)) if isinstance(leaf, Tensor) else leaf, result
        )

    def _count(self, func: Any, args: Any) -> None:
        masks = tree_leaves(args[1]) if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) else []
        by_mask = any(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in masks)
        if func is aten._local_scalar_dense.default or func in SHAPED_BY_VALUES or by_mask:
            self.counts["waits"] += 1
        if not func.is_view and func is not aten._unsafe_view.default:
            self.counts["ops"] += 1


def _on_host(leaf: Any) -> Any:
    return leaf.host if isinstance(leaf, DeviceTensor) else leaf


def on_device(model: CachedModel) -> Any:
    """The model with its logits on the device; its forwards themselves run on the host and are not counted."""
    return _DeviceModel(model)


class _DeviceModel:
    device = DEVICE

    def __init__(self, model: CachedModel):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, *args: Any, **options: Any) -> Tensor:
        return DeviceTensor(self._model.forward(*args, **options))
