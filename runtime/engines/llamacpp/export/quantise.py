"""Quantised files, made of float32 ones by llama.cpp itself."""

import ctypes
from pathlib import Path
from typing import Any

from .....controller.errors import InputError
from ..library import llama_cpp, quiet_log

# File type, and what every width has to be a multiple of.
QUANTISED = {"q8_0": ("LLAMA_FTYPE_MOSTLY_Q8_0", 32), "q4_k_m": ("LLAMA_FTYPE_MOSTLY_Q4_K_M", 256)}


def require_quantisable(name: str, config: Any, number_format: str) -> None:
    """InputError where rows of the model's matrices are not made of whole blocks."""
    block = QUANTISED[number_format][1]
    widths = config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim
    if odd := [width for width in widths if width % block]:
        raise InputError(
            f"format {number_format} stores rows in blocks of {block}, and {name!r} has rows of {odd[0]}; export f16, "
            "or a pair that `treewright make-pair --inflate` has grown"
        )


def quantise(source: Path, into: Path, number_format: str) -> None:
    """Write the file `into` from a float32 one; InputError where llama.cpp cannot."""
    library = llama_cpp()
    options = library.llama_model_quantize_default_params()
    options.ftype = getattr(library, QUANTISED[number_format][0])
    with quiet_log() as said:
        failed = library.llama_model_quantize(bytes(source), bytes(into), ctypes.byref(options))
    if failed:
        raise InputError(f"llama.cpp cannot quantise {source.name} to {number_format}{said.sentence}; export f16")
