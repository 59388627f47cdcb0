"""The folder of an inflated pair: both models with their tokenizer, written weight by weight, whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from ...controller.errors import InputError, first_line, named
from ...controller.files import sync_folder
from ...runtime.engines.transformers.pair import transformers_model
from ...runtime.engines.transformers.tokenizer import TransformersTokenizer
from ...runtime.pair import load_pair
from ...runtime.pair_config import DTYPES, PairConfig
from .inflate import empty_model, inflated_weights
from .settings import ModelSize
from .sizes import GrownShape

SHARD_BYTES = 1 << 30  # of weights are in memory before they are written to a file of their own


@dataclass(frozen=True)
class InflatedPair:
    """How an inflated pair was made, for its provenance.json."""

    inflated_from: dict[str, str]  # target and drafter by folder or hub id, and their fingerprint
    shape: dict[str, ModelSize]
    parameters: dict[str, int]  # by model
    dtype: str


def save_inflated_pair(out: Path, config: PairConfig, shape: GrownShape) -> InflatedPair:
    """Grow the pair of `config`, in its number format and on its device; InputError where it cannot be grown so, or the
    folder cannot be written or holds something."""
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and is no empty folder; choose a new output folder")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {config.device!r} is asked for, but this machine has no CUDA; use device=cpu")
    # Stored models are no more precise than float32, and a model loaded in less would be rounded twice. On the device
    # there are only the weights that are written next.
    pair = load_pair(replace(config, dtype="float32", device="cpu"))
    dtype = DTYPES[config.dtype]
    models = {
        role: transformers_model(model, "inflating").model
        for role, model in (("target", pair.target), ("drafter", pair.drafter))
    }
    assert isinstance(pair.tokenizer, TransformersTokenizer)
    sizes = shape._asdict()
    parameters = {}
    for role, model in models.items():
        with named(role):
            parameters[role] = empty_model(model, sizes[role], dtype).num_parameters()
    made = InflatedPair(
        inflated_from={"target": config.target, "drafter": config.drafter, "fingerprint": pair.fingerprint},
        shape=sizes,
        parameters=parameters,
        dtype=config.dtype,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_space(out.parent, sum(parameters.values()) * dtype.itemsize)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}-", dir=out.parent))
        try:
            for role, model in models.items():
                write_model(temporary / role, model, sizes[role], dtype=dtype, device=config.device)
                pair.tokenizer.fast.save_pretrained(temporary / role)
            (temporary / "provenance.json").write_text(json.dumps(asdict(made), indent=1) + "\n")
            _sync(temporary)
            temporary.chmod(0o755)
            temporary.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise InputError(f"{out} cannot be written ({reason}); correct that or choose another folder") from error
    return made


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the pair takes {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left; choose a smaller size "
            "or another disk"
        )


def write_model(
    folder: Path,
    model: PreTrainedModel,
    size: ModelSize,
    *,
    dtype: torch.dtype,
    device: str,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """The grown model's configurations, and its weights in the Hub's layout of several files."""
    folder.mkdir()
    empty_model(model, size, dtype).config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    weights = inflated_weights(model, size, dtype=dtype, device=device, seed=0)
    written, total = [], 0
    for part in _parts(weights, shard_bytes):
        save_file(part, folder / f"{len(written)}.safetensors", metadata={"format": "pt"})
        written.append(list(part))
        total += sum(weight.nbytes for weight in part.values())
    # How many files there are, which is part of their names, is known behind the last.
    files = {}
    for number, names in enumerate(written):
        file = f"model-{number + 1:05}-of-{len(written):05}.safetensors"
        renamed = (folder / f"{number}.safetensors").rename(folder / file)
        renamed.chmod(0o644)  # safetensors lets only its owner read it
        files |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _parts(weights: Iterator[tuple[str, Tensor]], least_bytes: int) -> Iterator[dict[str, Tensor]]:
    """The weights in parts of at least so many bytes, but for the last."""
    part, held = {}, 0
    for name, weight in weights:
        part[name] = weight
        held += weight.nbytes
        if held >= least_bytes:
            yield part
            part, held = {}, 0
    if part:
        yield part


def _sync(folder: Path) -> None:
    """Wait until all of the folder is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
