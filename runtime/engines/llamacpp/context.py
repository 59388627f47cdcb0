"""One model and its context in llama.cpp: a batch of rows in, their logits out; addresses and lifetimes stay here."""

import ctypes
import weakref
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from .config import MOST_IDS, LlamaCppConfig
from .library import llama_cpp, quiet_log

# Rows of one call, of which llama.cpp makes one graph; more are split.
MOST_ROWS = 512
# Cells besides those of the texts: for a step's tree, and a chunk of a prompt beside.
SPARE_CELLS = 1024
DEFAULT_CONTEXT = 8192
CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}  # numbers of ggml


class Context:
    """Owns a model, its cache and the arrays of a batch, which are freed with the object."""

    def __init__(self, name: str, model: int, config: LlamaCppConfig):
        library = self._library = llama_cpp()
        own_length = library.llama_model_n_ctx_train(model)
        self.length = min(own_length, config.context or DEFAULT_CONTEXT)  # of a text
        self.num_cells = (config.context or min(config.texts * own_length, DEFAULT_CONTEXT)) + SPARE_CELLS
        self._threads = torch.get_num_threads()
        options = library.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = self.num_cells, MOST_ROWS, MOST_ROWS
        options.n_seq_max, options.kv_unified, options.swa_full = MOST_IDS, True, True
        options.type_k = options.type_v = CACHE_TYPES[config.cache_type]
        options.flash_attn_type = int(config.flash_attention)
        options.n_threads = options.n_threads_batch = self._threads
        options.no_perf = True
        with quiet_log() as said:
            context = library.llama_init_from_model(model, options)
        weakref.finalize(self, _free, library, model, context)
        if not context:
            raise InputError(
                f"llama.cpp makes no context for {name!r}{said.sentence}; lower pair.llamacpp.context, or choose "
                "another pair.llamacpp.cache_type"
            )
        self.model = model
        self.decode_ms = 0.0  # spent inside llama.cpp so far
        self.vocabulary = library.llama_model_get_vocab(model)
        self._context, self._memory = context, library.llama_get_memory(context)
        self._num_logits = library.llama_vocab_n_tokens(self.vocabulary)
        self._open_batch()

    def _open_batch(self) -> None:
        self._tokens, self._positions, self._counts = np.zeros((3, MOST_ROWS), dtype=np.int32)
        self._wanted = np.zeros(MOST_ROWS, dtype=np.int8)
        self._ids = np.zeros((MOST_ROWS, MOST_IDS), dtype=np.int32)  # of each row, the sequences that it belongs to
        rows = self._ids.ctypes.data + self._ids.strides[0] * np.arange(MOST_ROWS, dtype=np.uint64)
        self._id_rows = rows.astype(np.uint64)
        batch = self._batch = self._library.llama_batch()
        for field, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._id_rows),
            ("logits", self._wanted),
        ):
            kind = dict(batch._fields_)[field]
            setattr(batch, field, ctypes.cast(array.ctypes.data, kind))

    def clear(self) -> None:
        """Empty the cache."""
        self._library.llama_memory_clear(self._memory, False)

    def copy(self, source: int, into: int, end: int) -> None:
        """Let sequence `into` hold the rows of `source` before position `end`, too."""
        self._library.llama_memory_seq_cp(self._memory, source, into, 0, end)

    def remove(self, sequence: int, start: int = 0) -> None:
        """Drop a sequence's rows from position `start` on."""
        self._library.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def decode(self, tokens: Array, positions: Array, sequences: Sequence[Sequence[int]], wanted: Array) -> Tensor:
        """[m, V] float32 logits of the m `wanted` rows of n rows, each in its `sequences`; a view of llama.cpp's own
        memory, which the next call overwrites. RuntimeError where llama.cpp fails."""
        threads = torch.get_num_threads()
        if threads != self._threads:
            self._library.llama_set_n_threads(self._context, threads, threads)
            self._threads = threads
        if len(tokens) <= MOST_ROWS:
            return self._decode(tokens, positions, sequences, wanted)
        parts = [slice(start, start + MOST_ROWS) for start in range(0, len(tokens), MOST_ROWS)]
        return torch.cat([self._decode(tokens[at], positions[at], sequences[at], wanted[at]).clone() for at in parts])

    def _decode(self, tokens: Array, positions: Array, sequences: Sequence[Sequence[int]], wanted: Array) -> Tensor:
        count = self._batch.n_tokens = len(tokens)
        self._tokens[:count], self._positions[:count], self._wanted[:count] = tokens, positions, wanted
        self._counts[:count] = 1
        self._ids[:count, 0] = [of_row[0] for of_row in sequences]
        for row, of_row in enumerate(sequences):
            if len(of_row) > 1:
                self._ids[row, : len(of_row)] = of_row
                self._counts[row] = len(of_row)
        started = perf_counter()
        code = self._library.llama_decode(self._context, self._batch)
        self.decode_ms += (perf_counter() - started) * 1e3
        if code:
            raise RuntimeError(f"llama.cpp cannot decode {count} rows (llama_decode returns {code})")
        num_wanted = int(np.count_nonzero(wanted))
        if not num_wanted:
            return torch.zeros((0, self._num_logits))
        address = ctypes.cast(self._library.llama_get_logits(self._context), ctypes.c_void_p).value
        assert address is not None
        numbers = (ctypes.c_float * (num_wanted * self._num_logits)).from_address(address)
        return torch.frombuffer(numbers, dtype=torch.float32).view(num_wanted, self._num_logits)


def _free(library: Any, model: int, context: int | None) -> None:
    if context:
        library.llama_free(context)
    library.llama_model_free(model)
