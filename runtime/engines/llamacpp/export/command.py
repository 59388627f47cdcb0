"""The `export-gguf` command: a pair of transformers as two GGUF files, whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedModel

from .....controller.console import print_json
from .....controller.errors import InputError
from .....controller.files import sync_folder
from ....pair_config import REFERENCE, is_gguf, resolved
from ...transformers.loading import load_tokenizer, load_weights
from ...transformers.pair import end_tokens
from ..library import llama_cpp
from .architecture import require_exportable
from .file import ENCODINGS, write_gguf
from .package import gguf_package
from .quantise import QUANTISED, quantise, require_quantisable

FORMATS = (*ENCODINGS, *QUANTISED)


def export_gguf(out: Path, target: str = REFERENCE, drafter: str = REFERENCE, number_format: str = "f16") -> None:
    """Write a Llama-architecture pair as GGUF files, which llama.cpp runs.

    Args:
        out: Folder to write target.gguf and drafter.gguf to
        target: Folder or hub id of the target; `reference` is the pair that ships with treewright
        drafter: Folder or hub id of the drafter
        number_format: Of the weights: f32, f16 or bf16, or by llama.cpp q8_0 or q4_k_m
    """
    started = perf_counter()
    if number_format not in FORMATS:
        raise InputError(f"number_format is one of {', '.join(FORMATS)}, got {number_format!r}")
    if number_format in QUANTISED:
        llama_cpp()
    gguf_package()
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and is no empty folder; choose a new output folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}-", dir=out.parent))
        try:
            for role, name in (("target", target), ("drafter", drafter)):
                _export(temporary / f"{role}.gguf", name, role, number_format)
            temporary.chmod(0o755)
            temporary.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}); correct that or choose another folder"
        ) from error
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    seconds = round(perf_counter() - started, 1)
    print_json({"command": "export-gguf", "out": str(out), "format": number_format, "bytes": sizes, "seconds": seconds})


def _export(path: Path, name: str, role: str, number_format: str) -> None:
    if is_gguf(name):
        raise InputError(f"{role} {name!r} is a GGUF file already; give the folder or hub id of a model")
    folder = resolved(name, role)
    fast, model = load_tokenizer(folder), load_weights(folder, torch.float32)
    require_exportable(name, model)
    ends = sorted(end_tokens(name, model, fast))
    if number_format in ENCODINGS:
        _write(path, name, model, fast, ends, number_format)
        return
    require_quantisable(name, model.config, number_format)
    exact = path.with_suffix(".f32")
    _write(exact, name, model, fast, ends, "f32")
    quantise(exact, path, number_format)
    exact.unlink()
    _sync(path)


def _write(path: Path, name: str, model: PreTrainedModel, fast: Any, ends: list[int], number_format: str) -> None:
    write_gguf(path, name, model, fast, ends, number_format)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
