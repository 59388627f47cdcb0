"""One table as one Parquet file: compressed, every page with its checksum."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...controller.errors import InputError, first_line

ROW_GROUP_ROWS = 10_000  # what a streaming reader holds at once


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue().to_pybytes()


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    with _open(path) as file:
        return file.read(columns)


def iterate_parquet(path: Path, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `batch_rows` rows; one row group is in memory at a time."""
    with _open(path) as file:
        yield from file.iter_batches(batch_rows, columns=columns)


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); repair the disk or collect again") from error
