"""The trace folder: texts the target wrote, and what the drafter thought at each of their positions.

Shards are sealed Parquet files, listed with their SHA-256 in `manifest.json`; a shard the manifest does not list was
never written. Both are replaced by rename, so a killed run leaves whole shards and resumes behind the last of them.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..controller.errors import InputError

SCHEMA_VERSION = 2

TEXTS = pa.schema(
    [
        ("text_id", pa.string()),
        ("domain", pa.string()),
        ("document", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # prompt and continuation
        ("prompt_length", pa.int32()),
        ("temperature", pa.float32()),
        ("top_k", pa.int32()),
        ("top_p", pa.float32()),
        ("seed", pa.int64()),
        ("num_ties", pa.int32()),  # positions where the teacher-forced row would have drawn another token
        ("decode_ms", pa.float32()),  # of its batch, shared evenly
    ]
)
POSITIONS = pa.schema(
    [
        ("text_id", pa.string()),
        ("document", pa.string()),
        ("position", pa.int32()),  # index of the emitted token in its text
        ("draw", pa.int32()),  # 0: the text's own noise; above: the same rows under other noise, no token emitted
        ("temperature", pa.float32()),
        ("top_p", pa.float32()),
        ("emitted", pa.int32()),  # what the target draws here under the row's noise
        (
            "rank",
            pa.int32(),
        ),  # place of the emitted token among the candidates of the trace's law, -1 if beyond
        ("fixed_rank", pa.int32()),  # the same under the fixed law
        ("target_log_prob", pa.float32()),  # of the emitted token
        ("draft_log_prob", pa.float32()),
        ("target_entropy", pa.float32()),
        ("draft_entropy", pa.float32()),
        ("draft_top_log_prob", pa.float32()),
        ("overlap", pa.float32()),  # sum over tokens of min(target, drafter) probability
        # The nodes the drafter would hang here, best first under the trace's law.
        ("candidates", pa.list_(pa.int32())),
        ("candidate_log_probs", pa.list_(pa.float32())),
        ("candidate_noisy_log_probs", pa.list_(pa.float32())),
    ]
)


NODES = pa.schema(
    [
        ("text_id", pa.string()),
        ("document", pa.string()),
        ("position", pa.int32()),  # index of the root in its text
        ("tokens", pa.list_(pa.int32())),  # of the envelope's nodes, root first
        ("parents", pa.list_(pa.int32())),
        ("ranks", pa.list_(pa.int32())),
        ("log_probs", pa.list_(pa.float32())),
        ("noisy_log_probs", pa.list_(pa.float32())),
        ("entropies", pa.list_(pa.float32())),
        ("top_log_probs", pa.list_(pa.float32())),
        ("expanded", pa.list_(pa.int32())),  # nodes whose children were drafted
    ]
)
TABLES = {"texts": TEXTS, "positions": POSITIONS, "nodes": NODES}


@dataclass(frozen=True)
class TraceHeader:
    """What every row of a folder has in common."""

    pair: str
    law: str
    tokenizer_sha256: str
    width: int  # candidates per position
    command: dict[str, Any]  # the resolved configuration of the run
    schema_version: int = SCHEMA_VERSION


class TraceFolder:
    """A trace folder, open for appending shards and for reading."""

    def __init__(self, path: Path, header: TraceHeader, shards: list[dict[str, Any]]):
        self.path = path
        self.header = header
        self.shards = shards

    @classmethod
    def create(cls, path: Path, header: TraceHeader) -> Self:
        """Start a folder, or resume one made by the same command; InputError where another run's traces lie there."""
        if (path / "manifest.json").exists():
            folder = cls.open(path)
            if folder.header != header:
                raise InputError(
                    f"{path} holds traces of another run (pair, law or settings differ); choose another output folder"
                )
            return folder
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is no trace folder; choose an empty or new output folder")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, header, [])
        folder._write_manifest()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder and verify every shard's hash; InputError in one sentence where anything is off."""
        manifest = path / "manifest.json"
        if not manifest.is_file():
            raise InputError(f"{path} is no trace folder (no manifest.json); run `treewright collect` to make one")
        try:
            content = json.loads(manifest.read_text())
            version, header, shards = content["header"]["schema_version"], content["header"], content["shards"]
            if version == SCHEMA_VERSION and content["sha256"] != _digest(header, shards):
                raise ValueError("its own SHA-256 differs")
            folder = cls(path, TraceHeader(**header), shards) if version == SCHEMA_VERSION else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{manifest} cannot be read ({error}); the trace folder is damaged") from error
        if folder is None:
            raise InputError(f"{path} has trace schema {version}, this build reads {SCHEMA_VERSION}; collect again")
        for shard in folder.shards:
            for name, expected in shard["sha256"].items():
                if not (path / name).is_file() or _sha256(path / name) != expected:
                    raise InputError(f"{path / name} is missing or damaged (SHA-256 differs); collect again")
        return folder

    def append(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Seal one shard, rows by table: all files first, then the manifest that makes them count."""
        number = len(self.shards)
        hashes = {}
        for name, schema in TABLES.items():
            file = f"{name}-{number:05d}.parquet"
            temporary = self.path / f"{file}.tmp"
            table = pa.Table.from_pylist(rows[name], schema=schema)
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
            temporary.replace(self.path / file)
            hashes[file] = _sha256(self.path / file)
        self.shards.append({"num_texts": len(rows["texts"]), "sha256": hashes})
        self._write_manifest()

    def texts(self) -> pa.Table:
        return self._read("texts")

    def positions(self) -> pa.Table:
        """All position rows, texts in order and each text's positions in order."""
        return self._read("positions")

    def nodes(self) -> pa.Table:
        """All envelopes, texts in order and each text's roots in order."""
        return self._read("nodes")

    def _read(self, name: str) -> pa.Table:
        files = [file for shard in self.shards for file in shard["sha256"] if file.startswith(name)]
        tables = [pq.read_table(self.path / file, page_checksum_verification=True) for file in files]
        return pa.concat_tables(tables) if tables else TABLES[name].empty_table()

    def _write_manifest(self) -> None:
        temporary = self.path / "manifest.json.tmp"
        header = vars(self.header)
        content = {"header": header, "shards": self.shards, "sha256": _digest(header, self.shards)}
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(self.path / "manifest.json")


def _digest(header: dict[str, Any], shards: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps([header, shards], sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
