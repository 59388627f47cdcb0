"""The trace folder: texts are journaled, sealed to Parquet shards, and read back only when they are whole.

Only what the manifest lists is valid, and the whole records of the next shard's journal. Everything else is left over
from a killed run, so a run killed anywhere resumes with each acknowledged text exactly once.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from ...controller.errors import InputError
from ...controller.files import TEMPORARY, atomic_write, lock_file, make_folder, remove_synced
from .journal import Journal, journal_file, read_journal
from .manifest import MANIFEST, Manifest, Shard
from .parquet import iterate_parquet, parquet_bytes, read_parquet
from .schema import TraceHeader, TraceRows

LOCK = "collect.lock"
SHARD_TEXTS = 64


class TraceFolder:
    """A trace folder, open for reading; `create` opens it for writing too, until `finish` or `close`."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self._manifest = manifest
        self._journal = self._next_journal()
        self._shard_texts = SHARD_TEXTS
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path, header: TraceHeader, shard_texts: int = SHARD_TEXTS) -> Self:
        """Start a folder, or resume one made by the same command; InputError where it holds another run's traces.

        A shard is sealed as soon as it holds `shard_texts` texts.
        """
        folder = cls(path, Manifest(header))
        folder._shard_texts = shard_texts
        with folder._writing():
            if path.exists() and not (path / MANIFEST).exists() and not _is_unbegun(path):
                raise InputError(f"{path} exists and is no trace folder; choose an empty or new output folder")
            make_folder(path)
            folder._lock = lock_file(path / LOCK)
            for leftover in path.glob(f".*{TEMPORARY}"):
                remove_synced(leftover)
            if (path / MANIFEST).exists():
                folder._resume(Manifest.read(path))
            else:
                folder._update()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a finished folder and verify every file's hash; InputError in one sentence where anything is off."""
        manifest = Manifest.read(path)
        manifest.require_finished(path)
        manifest.verify(path)
        return cls(path, manifest)

    @property
    def header(self) -> TraceHeader:
        return self._manifest.header

    @property
    def shards(self) -> list[Shard]:
        return self._manifest.shards

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each attached file."""
        return self._manifest.files

    @property
    def num_texts(self) -> int:
        """Acknowledged texts: sealed and journaled."""
        return sum(shard.num_rows["texts"] for shard in self.shards) + self._journal.num_texts

    def append(self, rows: TraceRows) -> None:
        """Acknowledge some texts with all their rows: they last once this returns.

        InputError where the disk refuses; then this object accepts no more, and `create` resumes the folder.
        """
        assert self._lock is not None and not self._manifest.finished
        with self._writing():
            self._journal.append(rows)
            if self._journal.num_texts >= self._shard_texts:
                self._seal_journal()

    def attach(self, name: str, content: bytes) -> None:
        """Store one more file in the folder, such as the latency table; its hash goes into the manifest."""
        with self._writing():
            atomic_write(self.path / name, content)
            self._update(files=self.files | {name: hashlib.sha256(content).hexdigest()})

    def add_shard(self, contents: dict[str, bytes], num_rows: dict[str, int]) -> None:
        """Seal one shard, given each table's Parquet file: all files first, then the manifest that makes them count."""
        with self._writing():
            hashes = {}
            for table, content in contents.items():
                file = self.shard_file(table, len(self.shards))
                atomic_write(file, content)
                hashes[file.name] = hashlib.sha256(content).hexdigest()
            self._update(shards=[*self.shards, Shard(num_rows, hashes)])

    def finish(self) -> None:
        """Seal what is journaled and declare the folder whole: from now on it is read-only."""
        if not self._manifest.finished:
            with self._writing():
                if self._journal.num_texts:
                    self._seal_journal()
                self._update(finished=True)
        self.close()

    def close(self) -> None:
        """Release the folder, finished or not."""
        self._journal.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The sealed rows of a table, in the order they were appended; InputError for a column left out for privacy."""
        shards = (self.shard(table, number, columns) for number in range(len(self.shards)))
        return pa.concat_tables([self.header.schema(table, columns).empty_table(), *shards])

    def shard(self, table: str, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a table in one shard; a text's rows are never in two."""
        return read_parquet(self.shard_file(table, number), self.header.schema(table, columns).names)

    def iterate(
        self, table: str, columns: Sequence[str] | None = None, batch_rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """The same rows in batches of at most `batch_rows`: memory stays flat however large the folder is."""
        schema = self.header.schema(table, columns)
        for number in range(len(self.shards)):
            yield from iterate_parquet(self.shard_file(table, number), schema.names, batch_rows)

    def shard_file(self, table: str, number: int) -> Path:
        return self.path / f"{table}-{number:05d}.parquet"

    def _next_journal(self) -> Journal:
        return Journal(journal_file(self.path, len(self.shards)), self.header.schemas)

    def _resume(self, manifest: Manifest) -> None:
        """Continue a run of the same command: its journal becomes a shard, or is removed where it already is one."""
        if differing := manifest.header.differences(self.header):
            raise InputError(
                f"{self.path} holds traces of another run, which differs in {', '.join(differing)}; choose another "
                "folder"
            )
        manifest.verify(self.path)
        self._manifest = manifest
        self._journal = self._next_journal()
        for file in sorted(self.path.glob("journal-*.arrows")):
            if file == self._journal.path:
                self._seal_journal()
            else:
                remove_synced(file)

    def _seal_journal(self) -> None:
        journal = self._journal
        tables = read_journal(journal.path, self.header.schemas)
        num_rows = {name: table.num_rows for name, table in tables.items()}
        if num_rows["texts"] < journal.num_texts:
            raise InputError(f"{journal.path} has lost acknowledged texts; repair the disk, then run the command again")
        if num_rows["texts"]:
            self.add_shard({name: parquet_bytes(table) for name, table in tables.items()}, num_rows)
        journal.close()
        remove_synced(journal.path)
        self._journal = self._next_journal()

    def _update(self, **changes: Any) -> None:
        assert self._lock is not None
        manifest = replace(self._manifest, **changes)
        manifest.write(self.path)
        self._manifest = manifest

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Any error closes the folder: no record may follow a half-written one."""
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise InputError(
                    f"{self.path} cannot be written ({error.strerror or error}); "
                    "fix that and run the same command again, it resumes where it stopped"
                ) from error
            raise


def _is_unbegun(path: Path) -> bool:
    """Whether a folder holds no more than a run killed at its start leaves: the lock and a part of a manifest."""
    return path.is_dir() and all(name == LOCK or name.endswith(TEMPORARY) for name in os.listdir(path))
