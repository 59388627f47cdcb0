"""The journal of the next shard: acknowledged texts that are not sealed yet.

A file of records, each its length, its SHA-256 and an Arrow IPC stream of one row: per table, the list of the rows
of some texts decoded together. Only a whole record is valid, so a write cut short loses no earlier record.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ...controller.files import append_synced, create_synced
from .schema import TraceRows

LENGTH_BYTES, HASH_BYTES = 8, 32


def journal_file(folder: Path, shard: int) -> Path:
    """Where the texts of the folder's next shard are journaled."""
    return folder / f"journal-{shard:05d}.arrows"


class Journal:
    """A new journal that takes rows; on the disk from the first append on."""

    def __init__(self, path: Path, schemas: dict[str, pa.Schema]):
        self.path = path
        self.num_texts = 0
        self._schemas = schemas
        self._descriptor: int | None = None

    def append(self, rows: TraceRows) -> None:
        """Acknowledge texts with all their rows: they survive a kill or a power cut once this returns."""
        payload = _pack(rows, self._schemas)
        if self._descriptor is None:
            self._descriptor = create_synced(self.path)
        length = len(payload).to_bytes(LENGTH_BYTES, "little")
        append_synced(self._descriptor, length + hashlib.sha256(payload).digest() + payload)
        self.num_texts += len(rows.texts)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_journal(path: Path, schemas: dict[str, pa.Schema]) -> dict[str, pa.Table]:
    """The rows of every whole record."""
    tables = {name: [schema.empty_table()] for name, schema in schemas.items()}
    for record in journal_records(path):
        for name, table in record.items():
            tables[name].append(table)
    return {name: pa.concat_tables(parts) for name, parts in tables.items()}


def journal_records(path: Path) -> Iterator[dict[str, pa.Table]]:
    """The tables of each whole record up to the first that is not: after it nothing was acknowledged."""
    content = memoryview(path.read_bytes())
    while len(content) > LENGTH_BYTES + HASH_BYTES:
        end = LENGTH_BYTES + HASH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
        payload = content[LENGTH_BYTES + HASH_BYTES : end]
        # The hash is checked before parsing: Arrow never reads damaged bytes.
        if hashlib.sha256(payload).digest() != content[LENGTH_BYTES : LENGTH_BYTES + HASH_BYTES]:
            break
        yield _unpack(payload)
        content = content[end:]


def _pack(rows: TraceRows, schemas: dict[str, pa.Schema]) -> bytes:
    nested = pa.schema([(name, pa.list_(pa.struct(list(schema)))) for name, schema in schemas.items()])
    columns = {name: [row._asdict() for row in getattr(rows, name)] for name in schemas}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, nested) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist([columns], schema=nested))
    return sink.getvalue().to_pybytes()


def _unpack(payload: memoryview) -> dict[str, pa.Table]:
    with pa.ipc.open_stream(pa.py_buffer(payload)) as stream:
        nested = stream.read_all()
    return {name: pa.Table.from_struct_array(nested[name].combine_chunks().flatten()) for name in nested.column_names}
