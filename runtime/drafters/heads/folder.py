"""What a draft head's folder holds: a config.json and weights in safetensors; data alone, never pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ....controller.errors import InputError, first_line
from ....controller.files import sha256
from ...engines.transformers.loading import shape_text


def read_settings(folder: Path) -> dict[str, Any]:
    """The folder's config.json, {} where it has none; InputError where that is not a JSON object."""
    file = folder / "config.json"
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({first_line(error)}); copy the folder again") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} holds no JSON object; copy the folder again")
    return settings


def files_sha256(folder: Path) -> str:
    """Of the folder's configuration and weights together."""
    files = sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")])
    return hashlib.sha256(b"".join(bytes.fromhex(sha256(file)) for file in files)).hexdigest()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of the folder by name; InputError where there are none, or a file is damaged."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"head {folder} has no weights in safetensors, and pickled ones (.bin, .pt) are never read; convert them "
            "with safetensors.torch.save_file"
        )
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            weights |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file} cannot be read ({first_line(error)}); copy the folder again") from error
    return weights


def fill(network: nn.Module, weights: dict[str, Tensor], folder: Path, like: Tensor) -> None:
    """Give a `network` made on the meta device its weights, with the number format and device of `like`.

    InputError for a weight that is missing, has another shape, or is unknown and so of another kind of network.
    """
    expected = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise InputError(f"head {folder} lacks the weight {missing[0]!r} ({len(missing)} in all); copy it again")
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise InputError(
            f"head {folder} has a weight {unknown[0]!r} that its config.json does not account for; use one of the "
            "supported kinds"
        )
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise InputError(
                f"head {folder}: weight {name!r} is {shape_text(weights[name].shape)}, but its config.json and the "
                f"target ask for {shape_text(shape)}; use a head made for this target"
            )
    placed = {name: weight.to(device=like.device, dtype=like.dtype) for name, weight in weights.items()}
    network.load_state_dict(placed, assign=True)
    network.requires_grad_(False)
