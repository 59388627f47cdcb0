"""The manifest: the valid files, each with its SHA-256, under a digest of its own; replaced whole by rename."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ...controller.errors import InputError
from ...controller.files import atomic_write, sha256
from ...controller.memory import MemoryConfig
from .schema import OLDEST_TEXTS, SCHEMA_VERSION, TraceHeader

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One sealed file per table."""

    num_rows: dict[str, int]  # by table
    sha256: dict[str, str]  # by file name


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`, less its own digest."""

    header: TraceHeader
    shards: list[Shard] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 of the files beside the shards
    finished: bool = False  # all texts of the run are sealed

    @classmethod
    def read(cls, folder: Path, oldest: int = SCHEMA_VERSION) -> Self:
        """InputError in one sentence where the manifest is missing, damaged or of a schema older than `oldest`."""
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(f"{folder} is no trace folder (no {MANIFEST}); run `treewright collect` to make one")
        try:
            content = json.loads(path.read_text())
            version = content["header"]["schema_version"]
            if oldest <= version <= SCHEMA_VERSION:
                if content.pop("sha256") != _digest(content):
                    raise ValueError("its own SHA-256 differs")
                header = content["header"]
                header |= {name: tuple(header.get(name, ())) for name in ("omitted", "groups")}
                if header.get("memory") is not None:
                    header["memory"] = MemoryConfig(**header["memory"])
                if "law" in header:  # what schema 8 and older called the drafting scheme
                    header["scheme"] = header.pop("law")
                shards = [Shard(**shard) for shard in content["shards"]]
                return cls(**content | {"header": TraceHeader(**header), "shards": shards})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read ({error}); the trace folder is damaged, collect again") from error
        relabel = f"bring its texts up to date with `treewright collect --relabel {folder} --out NEW`"
        remedy = relabel if OLDEST_TEXTS <= version < SCHEMA_VERSION else "collect again"
        raise InputError(f"{folder} has trace schema {version}, this build reads {SCHEMA_VERSION}; {remedy}")

    def write(self, folder: Path) -> None:
        content = asdict(self)
        atomic_write(folder / MANIFEST, json.dumps(content | {"sha256": _digest(content)}, indent=1).encode())

    def require_finished(self, folder: Path) -> None:
        """InputError where the folder holds less than all rows of a run."""
        if self.header.texts_only:
            raise InputError(
                f"{folder} holds texts without labels; `treewright collect --relabel {folder} --out NEW` labels them"
            )
        if not self.finished:
            raise InputError(
                f"{folder} was not collected to its end; run the same `treewright collect` again to finish"
            )

    def verify(self, folder: Path) -> None:
        """Compare every file with its hash; InputError at the first that is missing or differs."""
        listed = [self.files, *(shard.sha256 for shard in self.shards)]
        for name, expected in (pair for hashes in listed for pair in hashes.items()):
            try:
                intact = (folder / name).is_file() and sha256(folder / name) == expected
            except OSError as error:
                raise InputError(
                    f"{folder / name} cannot be read ({error}); repair the disk or collect again"
                ) from error
            if not intact:
                raise InputError(f"{folder / name} is missing or damaged (SHA-256 differs); collect again")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
