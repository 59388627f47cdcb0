"""The checkpoint folder: what a trained selector is, which pair and law it is for, and how it was made.

Data, not code: JSON, safetensors and ONNX, hashed in `config.json`, checked against golden vectors, never pickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load as load_safetensors

from .errors import InputError
from .features import FEATURE_VERSION, FEATURES
from .scorers.learned import INPUT_NAME, OUTPUT_NAMES, LearnedScorer, open_session
from .selector import TreeLimits
from .tree import Array

SCHEMA_VERSION = 2
MAX_FILE_BYTES = 64 << 20
HASHED_FILES = ("model.safetensors", "model.onnx", "golden.safetensors", "baselines.json", "metrics.json")
GOLDEN_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SelectorConfig:
    """`config.json`, less the hashes."""

    pair: str
    law: str
    tokenizer_sha256: str
    limits: TreeLimits
    coverage: tuple[float, ...]  # share of reachable positions at which the target takes the rank-w child
    provenance: dict[str, Any]
    features: tuple[str, ...] = FEATURES
    feature_version: int = FEATURE_VERSION
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A selector ready to use: config, exported graph, baselines tuned on the same traces."""

    config: SelectorConfig
    graph: bytes
    weights: dict[str, Array]
    golden: dict[str, Array]
    baselines: dict[str, Any]
    metrics: dict[str, Any]

    def scorer(self) -> LearnedScorer:
        return LearnedScorer.from_bytes(self.graph)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read and verify a checkpoint folder; InputError in one sentence where anything is off."""
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is no checkpoint folder (no config.json); run `treewright train` to make one")
        config, hashes = _read_config(path)
        files = {name: _read_file(path / name, hashes.get(name)) for name in HASHED_FILES}
        checkpoint = cls(
            config=config,
            graph=files["model.onnx"],
            weights=load_safetensors(files["model.safetensors"]),
            golden=load_safetensors(files["golden.safetensors"]),
            baselines=json.loads(files["baselines.json"]),
            metrics=json.loads(files["metrics.json"]),
        )
        checkpoint._check_golden(path)
        return checkpoint

    def _check_golden(self, path: Path) -> None:
        """The graph must answer as it did when it was exported."""
        answers = open_session(self.graph).run(OUTPUT_NAMES, {INPUT_NAME: self.golden[INPUT_NAME]})
        wanted = [self.golden[name] for name in OUTPUT_NAMES]
        error = max(float(np.abs(np.asarray(a) - b).max()) for a, b in zip(answers, wanted, strict=True))
        if not error <= GOLDEN_TOLERANCE:
            raise InputError(f"{path}: the graph misses its golden vectors by {error:.2g}; the folder is damaged")


def save_checkpoint(folder: Path, config: SelectorConfig, files: dict[str, bytes], card: str) -> None:
    """Write the folder whole or not at all: fill a temporary one beside it, then rename."""
    assert set(files) == set(HASHED_FILES)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    content = json.dumps({**asdict(config), "sha256": hashes}, indent=1)
    for name, data in {**files, "config.json": content.encode(), "README.md": card.encode()}.items():
        with (temporary / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    temporary.chmod(0o755)
    if folder.exists():
        retired = temporary.with_name(temporary.name + "-old")
        folder.rename(retired)
        temporary.rename(folder)
        shutil.rmtree(retired)
    else:
        temporary.rename(folder)


def _read_config(path: Path) -> tuple[SelectorConfig, dict[str, str]]:
    """The config and the hash of each file; versions are looked at before anything that may have changed with them."""
    try:
        fields = json.loads((path / "config.json").read_text())
        schema, features = fields["schema_version"], fields["feature_version"]
        if schema == SCHEMA_VERSION and features == FEATURE_VERSION:
            hashes = fields.pop("sha256")
            fields["limits"] = TreeLimits(**fields["limits"])
            fields["features"], fields["coverage"] = tuple(fields["features"]), tuple(fields["coverage"])
            if fields["features"] == FEATURES:
                return SelectorConfig(**fields), hashes
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}/config.json cannot be read ({error}); the checkpoint is damaged") from error
    if schema != SCHEMA_VERSION:
        raise InputError(f"checkpoint {path} has schema {schema}, this build reads {SCHEMA_VERSION}; update or retrain")
    raise InputError(
        f"checkpoint {path} needs feature set {features}, this build computes {FEATURE_VERSION}; retrain the selector"
    )


def _read_file(path: Path, expected: str | None) -> bytes:
    if not path.is_file():
        raise InputError(f"checkpoint file {path} is missing; copy the folder again")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"checkpoint file {path} is larger than {MAX_FILE_BYTES >> 20} MiB; this is no selector")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"checkpoint file {path} does not match its SHA-256 in config.json; the folder is damaged")
    return content
