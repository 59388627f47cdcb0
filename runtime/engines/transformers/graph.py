"""CUDA graphs of one model: captured on a stream of their own, with one memory pool."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[[], tuple[Tensor, ...]]


class Graphs:
    """Runs functions by graphs.

    A function may depend on nothing but tensors whose addresses never change, and may read no value back to the host. A
    model that does is run without graphs from then on, with a warning.
    """

    def __init__(self, device: torch.device, most_rows: int):
        self._device = device
        self._most_rows = most_rows  # of a result
        self._captures = True
        self._stream: Any = None
        self.clear()

    def clear(self) -> None:
        """Forget all graphs, because an address has changed."""
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}
        self._buffers: dict[tuple[int, ...], Tensor] = {}  # of the results, which all graphs share
        self._pool: Any = None  # a pool ends with its last graph, so it cannot be used again

    def __contains__(self, key: Hashable) -> bool:
        return key in self._graphs

    def run(self, key: Hashable, function: Function) -> tuple[Tensor, ...]:
        """What `function` gives, good until the next run; its graph, named by `key`, is captured at the first."""
        if self._captures and key not in self._graphs:
            self._capture(key, function)
        if key not in self._graphs:
            return function()
        graph, results = self._graphs[key]
        graph.replay()
        return results

    def _capture(self, key: Hashable, function: Function) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream = self._stream or torch.cuda.Stream(self._device)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # The first run compiles kernels and lets libraries set themselves up, which a capture does not allow.
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = tuple(self._buffer(index, value)[: len(value)] for index, value in enumerate(function()))
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, a server's for example, may use the device meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                for result, value in zip(results, function(), strict=True):
                    result.copy_(value)
        except RuntimeError as error:
            self._captures = False
            self.clear()
            log.warning("the model cannot be captured as a CUDA graph and runs without, which is slower: %s", error)
            return
        self._graphs[key] = graph, results

    def _buffer(self, index: int, value: Tensor) -> Tensor:
        known = (index, *value.shape[1:])
        if known not in self._buffers:
            self._buffers[known] = value.new_empty((self._most_rows, *value.shape[1:]))
        return self._buffers[known]
