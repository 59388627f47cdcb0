"""A function of tensors of fixed shapes, captured as a CUDA graph when it is first called."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class CapturedFunction:
    """Calls `function` by a graph. Between calls, it may depend on nothing but its inputs and on tensors whose
    addresses never change, and it may read no value back to the host.

    The graphs of one `pool` (`torch.cuda.graph_pool_handle()`) share memory, so `result` is where the answer is kept.
    """

    def __init__(self, function: Callable[..., Tensor], result: Tensor, pool: Any):
        self._function, self._result, self._pool = function, result, pool
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """`result`, good until the next call of any function that shares it."""
        if self._graph is None:
            self._graph = self._capture(inputs)
        else:
            for known, new in zip(self._inputs, inputs, strict=True):
                known.copy_(new)
        self._graph.replay()
        return self._result

    def _capture(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = inputs
        # A first run, on a stream of its own, lets libraries set themselves up.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._result.copy_(self._function(*inputs))
        return graph
