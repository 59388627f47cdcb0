"""The checkpoint folder: read and verified before anything of it is used, written whole or not at all.

Data, not code: JSON, safetensors and ONNX, hashed in `config.json`, checked against golden vectors, never pickled.
"""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from ..errors import InputError, first_line
from ..files import atomic_write
from ..learned.numpy_model import PerceptronNetwork
from ..learned.scorer import INPUT_NAME, LearnedScorer
from ..plans.tuned import TunedSettings
from ..trees.tree import Array
from . import hub
from .config import CONFIG_FILE, HASHED_FILES, SelectorConfig, config_json, parse_config
from .graph import GOLDEN_TOLERANCE, check_graph, golden_miss
from .strict_json import parse_baselines, parse_object

CARD_FILE = "README.md"  # not hashed: people edit cards, and nothing reads them
FILES = (*HASHED_FILES, CONFIG_FILE, CARD_FILE)
MAX_FILE_BYTES = 64 << 20
MAX_JSON_BYTES = 4 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A verified selector, ready to use: config, exported graph, baselines tuned on the same traces."""

    config: SelectorConfig
    files: dict[str, bytes]  # the hashed ones, as they were read
    weights: dict[str, Array]
    golden: dict[str, Array]
    golden_miss: float  # largest difference between the graph's answers and the golden ones
    baselines: dict[str, Any]
    metrics: dict[str, Any]
    card: str

    @property
    def tuned(self) -> TunedSettings:
        """What replay found best; nothing where the traces held no envelopes."""
        return TunedSettings.parse(self.baselines.get("tuned", {}))

    @property
    def graph(self) -> bytes:
        return self.files["model.onnx"]

    def scorer(self) -> LearnedScorer:
        """In numpy where the weights are our own perceptron's and answer the golden vectors as the graph does; any
        other graph is run by ONNX Runtime."""
        network = PerceptronNetwork.from_weights(self.weights)
        if network is None or golden_miss(network(self.golden[INPUT_NAME]), self.golden) > GOLDEN_TOLERANCE:
            return LearnedScorer.from_bytes(self.graph)
        return LearnedScorer(network)

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Read and verify a checkpoint; InputError in one sentence where anything is off.

        A `Path` is a folder. A string is a folder if there is one, else a hub id, of which `revision` is a commit,
        tag or branch.
        """
        path = Path(name)
        if isinstance(name, str) and not path.exists() and hub.is_hub_id(name):
            path = download(name, revision)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and verify a folder, or what stood there when its replacement was cut short."""
        if not path.exists() and (retired := retired_name(path.resolve())).exists():
            path = retired
        if not (path / CONFIG_FILE).is_file():
            raise InputError(f"{path} is no checkpoint folder (no config.json); run `treewright train` to make one")
        try:
            return cls._parse(path)
        except InputError as error:
            raise InputError(f"checkpoint {path}: {error}") from error

    @classmethod
    def _parse(cls, path: Path) -> Self:
        config, hashes = parse_config(_read_file(path / CONFIG_FILE))
        files = {name: _read_file(path / name) for name in HASHED_FILES}
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != hashes[name]:
                raise InputError(f"{name} does not match its SHA-256 in config.json; the folder is damaged")
        weights = _parse_tensors(files, "model.safetensors")
        golden = _parse_tensors(files, "golden.safetensors")
        return cls(
            config=config,
            files=files,
            weights=weights,
            golden=golden,
            golden_miss=check_graph(files["model.onnx"], weights, golden),
            baselines=parse_baselines(files["baselines.json"]),
            metrics=parse_object(files["metrics.json"], "metrics.json"),
            card=_read_file(path / CARD_FILE).decode(errors="replace") if (path / CARD_FILE).exists() else "",
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint to a folder, whole or not at all."""
        save_checkpoint(Path(folder), self.config, self.files, self.card)

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload what was verified, and nothing else, to a hub repository, made if need be; the commit's address."""
        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(Path(scratch) / "checkpoint")
            return hub.upload(repo_id, Path(scratch) / "checkpoint", FILES, private=private)


def download(repo_id: str, revision: str | None) -> Path:
    """The hub's folder of one commit, not verified yet; its name is the commit."""
    return hub.download(repo_id, revision, FILES, max_file_bytes=MAX_FILE_BYTES)


def save_checkpoint(folder: Path, config: SelectorConfig, files: dict[str, bytes], card: str) -> None:
    """Write the folder whole or not at all: fill a temporary one beside it, then rename.

    A folder cannot take another's place in one step. Killed between the two renames, the older checkpoint stands
    under `retired_name`, where whoever reads or writes the folder next looks for it.
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
    """Where the older checkpoint stands while `folder` is replaced."""
    return folder.with_name(f".{folder.name[:100]}.replaced")


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(f"checkpoint {folder} cannot be written ({error.strerror or error}); choose another folder")


def require_replaceable(folder: Path) -> None:
    """InputError where something that is no checkpoint lies in the way; models have a `config.json` too."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        is_checkpoint = "feature_version" in parse_object(_read_file(folder / CONFIG_FILE), CONFIG_FILE)
    except InputError:
        is_checkpoint = False
    if not is_checkpoint:
        raise InputError(f"{folder} exists and is no checkpoint folder; choose a new output folder")


def _read_file(path: Path) -> bytes:
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


def _parse_tensors(files: dict[str, bytes], name: str) -> dict[str, Array]:
    try:
        return load_safetensors(files[name])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} holds no tensors ({first_line(error)}); the folder is damaged") from error
