"""Rows for every table of a trace folder, derived from a text's number: quick to make, easy to check."""

from functools import cache

import pyarrow as pa
from treewright.collect.trace import TABLES, TraceFolder, TraceHeader, TraceRows
from treewright.collect.trace.schema import EnvelopeRow, PositionRow, TextRow

POSITIONS_PER_TEXT = 3


def header(**changes) -> TraceHeader:
    settings = {"pair": "toy", "scheme": "coupled", "tokenizer_sha256": "0" * 64, "width": 3, "command": {"seed": 1}}
    return TraceHeader(**settings | changes)


@cache
def of_text(number: int) -> dict[str, list[dict]]:
    """One row of `texts` and three of every other table."""
    counts = {table: 1 if table == "texts" else POSITIONS_PER_TEXT for table in TABLES}
    return {
        table: [
            {field.name: _value(field.type, number * 10 + row) for field in schema}
            | {"text_id": f"{number:08d}", "document": f"doc {number}"}
            for row in range(counts[table])
        ]
        for table, schema in TABLES.items()
    }


def typed(tables: dict[str, list[dict]]) -> TraceRows:
    """Rows that `TraceFolder.append` takes."""
    kinds = {"texts": TextRow, "positions": PositionRow, "nodes": EnvelopeRow}
    return TraceRows(**{table: [kind(**row) for row in tables.get(table, ())] for table, kind in kinds.items()})


def fill(folder: TraceFolder, num_texts: int) -> None:
    """Append the texts that are not there yet, by number."""
    for number in range(folder.num_texts, num_texts):
        folder.append(typed(of_text(number)))


def expected(num_texts: int) -> dict[str, pa.Table]:
    """What a whole folder of `num_texts` texts reads back."""
    texts = [of_text(number) for number in range(num_texts)]
    return {
        table: pa.Table.from_pylist([row for text in texts for row in text[table]], schema=schema)
        for table, schema in TABLES.items()
    }


def contents(folder: TraceFolder) -> dict[str, pa.Table]:
    return {table: folder.read(table) for table in TABLES}


def _value(kind: pa.DataType, number: int):
    if pa.types.is_list(kind):
        return [_value(kind.value_type, number)] * 3
    return str(number) if pa.types.is_string(kind) else pa.types.is_boolean(kind) or number
