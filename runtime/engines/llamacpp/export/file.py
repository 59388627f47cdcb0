"""One GGUF file of a model and its tokenizer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .....controller.trees.tree import Array
from ...transformers.support import num_rows
from .architecture import ARCHITECTURE, add_settings, tensors
from .package import gguf_package
from .vocabulary import add_vocabulary


class Encoding(NamedTuple):
    """How matrices are stored; norms and biases are float32 in every file."""

    file_type: str  # of gguf's `LlamaFileType`
    tensor_type: str  # of gguf's `GGMLQuantizationType`
    encode: Callable[[Tensor], Array]


def _bfloat16_bytes(weight: Tensor) -> Array:
    """[n, 2 m] uint8: numpy has no such numbers."""
    return weight.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint8)


ENCODINGS = {
    "f32": Encoding("ALL_F32", "F32", lambda weight: weight.numpy()),
    "f16": Encoding("MOSTLY_F16", "F16", lambda weight: weight.to(torch.float16).numpy()),
    "bf16": Encoding("MOSTLY_BF16", "BF16", _bfloat16_bytes),
}


def write_gguf(
    path: Path, name: str, model: PreTrainedModel, fast: Any, end_tokens: Sequence[int], number_format: str
) -> None:
    """Write an exportable model in one of `ENCODINGS`, weight by weight; InputError for a tokenizer of another kind."""
    gguf, encoding = gguf_package(), ENCODINGS[number_format]
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    try:
        writer.add_name(Path(name).name)
        writer.add_file_type(gguf.LlamaFileType[encoding.file_type])
        add_settings(writer, model)
        add_vocabulary(writer, name, fast, num_rows(model), end_tokens)
        for tensor_name, weight in tensors(model):
            array, kind = _stored(weight, encoding)
            writer.add_tensor_info(
                tensor_name, array.shape, array.dtype, array.nbytes, raw_dtype=gguf.GGMLQuantizationType[kind]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, weight in tensors(model):
            writer.write_tensor_data(_stored(weight, encoding)[0])
    finally:
        writer.close()


def _stored(weight: Tensor, encoding: Encoding) -> tuple[Array, str]:
    if weight.ndim == 1:
        return weight.numpy(), "F32"
    return np.ascontiguousarray(encoding.encode(weight)), encoding.tensor_type
