"""The texts of a folder, to be labelled again: also those of an older schema, or that a server is still adding to."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from .folder import TraceFolder
from .journal import journal_file, journal_records
from .manifest import Manifest
from .parquet import read_parquet
from .schema import OLDEST_TEXTS, TEXTS, TraceHeader


class FolderTexts(NamedTuple):
    header: TraceHeader
    table: pa.Table  # columns of `schema.TEXTS`


def read_texts(path: Path) -> FolderTexts:
    """All texts that were acknowledged; InputError in one sentence where their tokens were left out for privacy, or
    where anything is off."""
    manifest = Manifest.read(path, oldest=OLDEST_TEXTS)
    manifest.header.schema("texts", ["tokens"])
    if not manifest.header.texts_only:
        manifest.require_finished(path)
    manifest.verify(path)
    folder = TraceFolder(path, manifest)
    tables = [read_parquet(folder.shard_file("texts", number)) for number in range(len(folder.shards))]
    if not manifest.finished:
        with suppress(FileNotFoundError):  # nothing journaled, or its server is sealing it right now
            tables += [record["texts"] for record in journal_records(journal_file(path, len(manifest.shards)))]
    if manifest.header.schema_version == 4:
        tables = [_from_schema_4(table) for table in tables]
    return FolderTexts(manifest.header, pa.concat_tables([TEXTS.empty_table(), *tables]))


def _from_schema_4(table: pa.Table) -> pa.Table:
    """One choice per seed, and settings in float32: their shortest decimals are the settings of the run."""
    columns = {name: table[name] for name in table.column_names}
    columns |= {name: table[name].cast(pa.string()).cast(pa.float64()) for name in ("temperature", "top_p")}
    columns |= {"choice": pa.array(np.zeros(table.num_rows, dtype=np.uint32))}
    return pa.table(columns).select(TEXTS.names).cast(TEXTS)
