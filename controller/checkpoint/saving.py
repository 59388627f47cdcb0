"""The checkpoint folder on disk: each file read whole within its bounds, the folder written whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_safetensors

from ..errors import InputError, first_line
from ..files import atomic_write
from ..trees.tree import Array
from .config import CONFIG_FILE, HASHED_FILES, SavedConfig, config_json
from .strict_json import parse_object

CARD_FILE = "README.md"  # not hashed: people edit cards, and nothing reads them
FILES = (*HASHED_FILES, CONFIG_FILE, CARD_FILE)
MAX_FILE_BYTES = 64 << 20
MAX_JSON_BYTES = 4 << 20


def packed(
    weights: Mapping[str, Array], graph: bytes, golden: Mapping[str, Array], documents: Mapping[str, Any]
) -> dict[str, bytes]:
    """The hashed files of a folder; `documents` by their names become JSON."""
    return {
        "model.safetensors": save_safetensors(dict(weights)),
        "model.onnx": graph,
        "golden.safetensors": save_safetensors(dict(golden)),
        **{name: json.dumps(document, indent=1).encode() for name, document in documents.items()},
    }


def save_checkpoint(folder: Path, config: SavedConfig, files: dict[str, bytes], card: str) -> None:
    """Write the folder whole or not at all: fill a temporary one beside it, then rename.

    A folder cannot replace another in one step. After a kill between the two renames, the older checkpoint is at
    `retired_name`, where the next read or write finds it.
    """
    assert set(files) == set(HASHED_FILES)
    require_replaceable(folder)
    folder = folder.resolve()
    retired = retired_name(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}-", dir=folder.parent))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        for name, content in {**files, CONFIG_FILE: config_json(config, files), CARD_FILE: card.encode()}.items():
            atomic_write(temporary / name, content)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(retired, ignore_errors=True)
            folder.rename(retired)
        temporary.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)
    except OSError as error:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def retired_name(folder: Path) -> Path:
    """The path of the older checkpoint while `folder` is replaced."""
    return folder.with_name(f".{folder.name[:100]}.replaced")


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(f"checkpoint {folder} cannot be written ({error.strerror or error}); choose another folder")


def require_replaceable(folder: Path) -> None:
    """InputError where `folder` holds something that is no checkpoint; models have a `config.json` too."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        is_checkpoint = "feature_version" in parse_object(read_file(folder / CONFIG_FILE), CONFIG_FILE)
    except InputError:
        is_checkpoint = False
    if not is_checkpoint:
        raise InputError(f"{folder} exists and is no checkpoint folder; choose a new output folder")


def read_file(path: Path) -> bytes:
    """The whole file; InputError where it is missing or larger than a selector's can be."""
    largest = MAX_JSON_BYTES if path.suffix in (".json", ".md") else MAX_FILE_BYTES
    if not path.is_file():
        raise InputError(f"{path.name} is missing; copy the folder again")
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({first_line(error)}); copy the folder again") from error
    if len(content) > largest:
        raise InputError(f"{path.name} is larger than {largest >> 20} MiB; this is no selector")
    return content
