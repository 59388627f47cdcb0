"""A model's layers, compiled: what torch fuses saves two of three kernels of a forward, each some microseconds.

The layers are compiled one by one, so that code for one serves all of them, and at the calls of the cache and of the
attention each breaks in two.
"""

from contextlib import AbstractContextManager

import torch._dynamo
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

# Rows and texts vary; only one row alone has code of its own. Two models of a pair share the limit.
MOST_VARIANTS = 64


def compile_layers(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile(dynamic=True)


def compiling() -> AbstractContextManager[None]:
    """Within it compiled layers run, and are compiled where they have not been; what torch cannot compile runs as it
    is."""
    return torch._dynamo.config.patch(
        allow_unspec_int_on_nn_module=True,  # else every layer's number is compiled into code of its own
        recompile_limit=MOST_VARIANTS,
        suppress_errors=True,
    )
