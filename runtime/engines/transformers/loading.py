"""Loading model folders: an error of transformers, or of a library below it, becomes one sentence."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from ....controller.errors import InputError, what_it_says
from .support import own_attention

log = logging.getLogger(__name__)

LFS_POINTER = b"version https://git-lfs"
LARGE_FILES = (".safetensors", ".bin", ".json", ".model", ".gguf")
MOST_NAMES = 3
# Code of a repository is never run; without this, transformers would ask at the terminal.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}


def load_tokenizer(name: str) -> Any:
    """The fast tokenizer at a folder or hub id; InputError where none can be read."""
    with _reading("tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(name, **NO_CODE)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"the tokenizer of {name!r} has no fast version, which streaming needs; choose another model")
    return tokenizer


def require_config(name: str) -> None:
    """InputError where no config.json can be read at a folder or hub id, whatever model it is of."""
    with _reading("model", name):
        PreTrainedConfig.get_config_dict(name)


def load_weights(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """The causal language model at a folder or hub id, with its `own_attention`, on the CPU.

    InputError where it cannot be read, and where weights are missing or of other shapes than its configuration asks
    for: transformers makes those up at random, and every run would generate another text.
    """
    with _reading("model", name):
        _require_json(Path(name) / "generation_config.json")
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype,
            ignore_mismatched_sizes=True,  # refused below, by name
            output_loading_info=True,
            **NO_CODE,
        )
    model, report = loaded
    model.set_attn_implementation(own_attention(model))  # whatever its configuration names
    _require_complete(name, report)
    return model


def _require_complete(name: str, report: dict[str, Any]) -> None:
    mismatched, missing = sorted(report["mismatched_keys"]), sorted(report["missing_keys"])
    unknown = sorted(report["unexpected_keys"])
    if mismatched:
        key, found, wanted = mismatched[0]
        raise InputError(
            f"the weights of {name!r} do not fit its config.json: {key} is {shape_text(found)} in the file and "
            f"{shape_text(wanted)} by the configuration ({len(mismatched)} such weights); copy both from the same place"
        )
    if missing:
        others = f", while it holds unknown ones such as {unknown[0]}" if unknown else ""
        raise InputError(
            f"{name!r} lacks {len(missing)} of its weights ({_some(missing)}){others}; they would be random numbers: "
            "copy the folder again, or rename the weights as the architecture in its config.json does"
        )
    if unknown:
        log.warning(
            "%r holds %d weights that its config.json does not ask for (%s), which are left out: if that is not how it "
            "was made, its configuration is another model's",
            name,
            len(unknown),
            _some(unknown),
        )


@contextmanager
def _reading(what: str, name: str) -> Iterator[None]:
    """InputError where a folder is missing, holds git-lfs pointers in place of its large files, or cannot be read."""
    folder, hint = Path(name), "check the folder"
    if not os.path.exists(name):
        if name.startswith((".", os.sep)) or name.count("/") > 1:  # as no hub id is
            raise InputError(f"there is no folder {name!r}; give one that holds a model, or a hub id")
        hint = "there is no such folder here, so give one, or a hub id that is cached or online"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in LARGE_FILES and _is_pointer(path):
            raise InputError(f"{path} is a git-lfs pointer in place of the file; run `git lfs pull` in {folder}")
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # what these libraries raise has no base in common; the tokenizer's is Exception itself
        raise InputError(f"no {what} can be loaded from {name!r} ({what_it_says(error)}); {hint}") from error


def _require_json(path: Path) -> None:
    """InputError for a damaged file that transformers passes over in silence; there may be none."""
    if not path.exists():
        return
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON ({what_it_says(error)}); copy it again, or remove it") from error


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False  # the loader says what is wrong with it


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def shape_text(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "a single number"
