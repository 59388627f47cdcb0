"""A model's layers, compiled: what torch fuses saves two of three kernels of a forward, each some microseconds.

The layers are compiled one by one, so that code for one serves all of them, and at the calls of the cache and of the
attention each breaks in two.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch._dynamo
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

# Models whose layers are alike share the code and the limit.
MOST_VARIANTS = 64


class CompiledLayers:
    """The layers of `model`. Other callers, such as transformers' own loops, run them as they are."""

    def __init__(self, model: nn.Module):
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        # What `nn.Module.compile` would set for good. The numbers of rows and of texts vary.
        self._calls = [(layer, torch.compile(layer._call_impl, dynamic=True)) for layer in layers]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the compiled layers run, and are compiled where they have not been; what torch cannot compile runs
        as it is."""
        settings = torch._dynamo.config.patch(
            allow_unspec_int_on_nn_module=True,  # else every layer's number is compiled into code of its own
            recompile_limit=MOST_VARIANTS,
            suppress_errors=True,
        )
        for layer, call in self._calls:
            layer._compiled_call_impl = call
        try:
            with settings:
                yield
        finally:
            for layer, _ in self._calls:
                layer._compiled_call_impl = None
