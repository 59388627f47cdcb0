"""The checkpoint folder: read and verified before anything of it is used, written whole or not at all.

Data, not code: JSON, safetensors and ONNX, hashed in `config.json`, checked against golden vectors, never pickled.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from ..errors import InputError, first_line, named
from ..trees.tree import Array
from . import hub
from .baselines import Baselines
from .bundle import SelectorBundle
from .config import CONFIG_FILE, HASHED_FILES, parse_config
from .graph import check_graph
from .saving import CARD_FILE, read_file, retired_name, save_checkpoint
from .strict_json import parse_object


@dataclass(frozen=True)
class Checkpoint(SelectorBundle):
    """A bundle that was read from a folder and verified; made by `from_pretrained` or `read` alone."""

    files: dict[str, bytes]  # the hashed ones, as they were read
    golden_miss: float  # largest difference between the graph's answers and the golden ones
    card: str

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Read and verify a checkpoint; InputError in one sentence where a check fails.

        A `Path` is a folder. A string is a folder if there is one, else a hub id, of which `revision` is a commit,
        tag or branch.
        """
        path = Path(name)
        if isinstance(name, str) and not path.exists() and hub.is_hub_id(name):
            path = hub.download(name, revision)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and verify a folder, or the older checkpoint where a replacement was interrupted."""
        path = found_folder(path)
        with named(f"checkpoint {path}"):
            return cls._parse(path)

    @classmethod
    def _parse(cls, path: Path) -> Self:
        config, hashes = parse_config(read_file(path / CONFIG_FILE))
        files = read_hashed(path, hashes)
        weights, golden = (parse_tensors(files, name) for name in ("model.safetensors", "golden.safetensors"))
        return cls(
            config=config,
            graph=files["model.onnx"],
            weights=weights,
            golden=golden,
            baselines=Baselines.parse(files["baselines.json"]),
            metrics=parse_object(files["metrics.json"], "metrics.json"),
            files=files,
            golden_miss=check_graph(files["model.onnx"], weights, golden),
            card=read_card(path),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint to a folder, whole or not at all."""
        save_checkpoint(Path(folder), self.config, self.files, self.card)

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload the verified files to a hub repository, created if missing; the commit's address."""
        return hub.upload_saved(self.save_pretrained, repo_id, private=private)


def found_folder(path: Path) -> Path:
    """The folder, or the older checkpoint where a replacement was interrupted; InputError where it is none."""
    if not path.exists() and (retired := retired_name(path.resolve())).exists():
        path = retired
    if not (path / CONFIG_FILE).is_file():
        raise InputError(f"{path} is no checkpoint folder (no config.json); run `treewright train` to make one")
    return path


def read_hashed(path: Path, hashes: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a folder beside its config, each as it was hashed."""
    files = {name: read_file(path / name) for name in HASHED_FILES}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise InputError(f"{name} does not match its SHA-256 in config.json; the folder is damaged")
    return files


def read_card(path: Path) -> str:
    return read_file(path / CARD_FILE).decode(errors="replace") if (path / CARD_FILE).exists() else ""


def parse_tensors(files: dict[str, bytes], name: str) -> dict[str, Array]:
    try:
        return load_safetensors(files[name])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} holds no tensors ({first_line(error)}); the folder is damaged") from error
